# libcublas.so.12 and libcublas.so.13: one source, an ABI of its own for each.

BLAS_MAJORS := 12 13
BLAS_SOURCES := $(wildcard blas/*.c)
BLAS_LIBRARIES := $(BLAS_MAJORS:%=$(BUILD)/libcublas.so.%)
LIBRARIES_MADE += $(BLAS_LIBRARIES) $(BUILD)/libcublas.so

define BLAS_RULES
BLAS_OBJECTS_$(1) := $$(BLAS_SOURCES:blas/%.c=$$(BUILD)/blas/$(1)/%.o)

$$(BUILD)/blas/$(1)/%.o: blas/%.c Makefile blas/rules.mk
	@mkdir -p $$(@D)
	$$(CC) $$(FLAGS) $$(LIBRARY_FLAGS) $$(CFLAGS) -DCUBLAS_MAJOR=$(1) -MMD -MP -c $$< -o $$@

$$(BUILD)/libcublas.so.$(1): $$(BLAS_OBJECTS_$(1)) generated/libcublas.so.$(1).map $$(BUILD)/libcuda.so
	$$(CC) -shared $$(CFLAGS) $$(LDFLAGS) -pthread -Wl,-soname,libcublas.so.$(1) -Wl,-z,defs \
		-Wl,-z,now -Wl,--version-script=generated/libcublas.so.$(1).map \
		$$(BLAS_OBJECTS_$(1)) -L$$(BUILD) -lcuda -o $$@

-include $$(BLAS_OBJECTS_$(1):.o=.d)
endef
$(foreach major,$(BLAS_MAJORS),$(eval $(call BLAS_RULES,$(major))))

$(BUILD)/libcublas.so: $(BUILD)/libcublas.so.13
	ln -sf libcublas.so.13 $@

$(BUILD)/tests/cublas_api: TEST_LIBRARIES := -lcublas -lm
$(BUILD)/tests/cublas_api: $(BUILD)/libcublas.so
