# Fuzzers: `make fuzzers`. build/fuzz/images -s SECONDS fuzzes the parsers, with sanitizers;
# build/fuzz/ioctls the kernel driver in a guest (`vgpu-stub fuzz ioctls`).

FUZZ_CFLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined \
	-fno-sanitize=alignment -fno-sanitize-recover=undefined
FUZZED_images := fatbin image_names lz4 zstd
FUZZERS := $(BUILD)/fuzz/images $(BUILD)/fuzz/ioctls

fuzzers: $(FUZZERS)

# Runs in guests of another release.
$(BUILD)/fuzz/ioctls: tests/fuzz/ioctls.c Makefile tests/rules.mk
	@mkdir -p $(@D)
	$(CC) $(FLAGS) $(CFLAGS) -static -pthread $< -o $@

$(BUILD)/fuzz/driver/%.o: driver/%.c Makefile tests/rules.mk
	@mkdir -p $(@D)
	$(CC) $(FLAGS) $(FUZZ_CFLAGS) -fsanitize-coverage=trace-pc -Dcalloc=fuzz_calloc -c $< -o $@

$(BUILD)/fuzz/%: tests/fuzz/%.c tests/fuzz/engine.c tests/fuzz/engine.h \
		$(FUZZED_images:%=$(BUILD)/fuzz/driver/%.o)
	$(CC) $(FLAGS) $(FUZZ_CFLAGS) -Idriver $(filter %.c %.o,$^) -o $@ -ldl

.PRECIOUS: $(BUILD)/fuzz/driver/%.o
.PHONY: fuzzers
