# libcudart.so.12 and libcudart.so.13: one source, compiled against the headers of each.
# CUDA_INCLUDE has those of CUDA 13, CUDA12_INCLUDE those of CUDA 12; where a machine has no
# headers of CUDA 12 that library is left out.

CUDA12_INCLUDE ?= $(patsubst %/cuda_runtime_api.h,%,$(firstword $(wildcard \
	$(ROOT)/.venv/lib/python3*/site-packages/nvidia/cuda_runtime/include/cuda_runtime_api.h)))
RUNTIME_SOURCES := $(wildcard runtime/*.c)
# Functions that take a stream have a second form, for programs whose default stream is each
# thread's own. It is the same source: NVIDIA's headers give the functions, and those of the
# driver that they call, their other names.
RUNTIME_TWICE := capture copy entry_point fill launch queue
# Headers of CUDA 12 come first; crt/host_defines.h is in CUDA_INCLUDE alone.
RUNTIME_INCLUDE_12 := $(CUDA12_INCLUDE:%=-isystem %)
RUNTIME_MAJORS := $(if $(CUDA12_INCLUDE),12) 13
LIBRARIES_MADE += $(RUNTIME_MAJORS:%=$(BUILD)/libcudart.so.%) $(BUILD)/libcudart.so

ifeq ($(CUDA12_INCLUDE),)
$(warning no headers of CUDA 12 (wheel nvidia-cuda-runtime-cu12): libcudart.so.12 is left out)
endif

define RUNTIME_RULES
RUNTIME_OBJECTS_$(1) := $$(RUNTIME_SOURCES:runtime/%.c=$$(BUILD)/runtime/$(1)/%.o) \
	$$(RUNTIME_TWICE:%=$$(BUILD)/runtime/$(1)/per_thread/%.o)

$$(BUILD)/runtime/$(1)/per_thread/%.o: FLAGS += -DCUDA_API_PER_THREAD_DEFAULT_STREAM
$$(BUILD)/runtime/$(1)/per_thread/%.o: runtime/%.c Makefile runtime/rules.mk
	@mkdir -p $$(@D)
	$$(CC) $$(RUNTIME_INCLUDE_$(1)) $$(FLAGS) $$(LIBRARY_FLAGS) $$(CFLAGS) \
		-DVGPU_RUNTIME_MAJOR=$(1) -MMD -MP -c $$< -o $$@

$$(BUILD)/runtime/$(1)/%.o: runtime/%.c Makefile runtime/rules.mk
	@mkdir -p $$(@D)
	$$(CC) $$(RUNTIME_INCLUDE_$(1)) $$(FLAGS) $$(LIBRARY_FLAGS) $$(CFLAGS) \
		-DVGPU_RUNTIME_MAJOR=$(1) -MMD -MP -c $$< -o $$@

$$(BUILD)/libcudart.so.$(1): $$(RUNTIME_OBJECTS_$(1)) generated/libcudart.so.$(1).map $$(BUILD)/libcuda.so
	$$(CC) -shared $$(CFLAGS) $$(LDFLAGS) -pthread -Wl,-soname,libcudart.so.$(1) -Wl,-z,defs \
		-Wl,-z,now -Wl,--version-script=generated/libcudart.so.$(1).map \
		$$(RUNTIME_OBJECTS_$(1)) -L$$(BUILD) -lcuda -o $$@

-include $$(RUNTIME_OBJECTS_$(1):.o=.d)
endef
$(foreach major,$(RUNTIME_MAJORS),$(eval $(call RUNTIME_RULES,$(major))))

$(BUILD)/libcudart.so: $(BUILD)/libcudart.so.13
	ln -sf libcudart.so.13 $@

# The test programs: against the headers of each, and with either default stream.
RUNTIME_PROGRAMS := $(wildcard tests/runtime/*.c)
TESTS += $(foreach major,$(RUNTIME_MAJORS),$(foreach stream,legacy per_thread,\
	$(RUNTIME_PROGRAMS:tests/runtime/%.c=$(BUILD)/tests/runtime/$(major)/$(stream)/%)))

define RUNTIME_TEST_RULE
$$(BUILD)/tests/runtime/$(1)/$(2)/%: tests/runtime/%.c tests/runtime/program.h $$(BUILD)/libcudart.so.$(1) runtime/rules.mk
	@mkdir -p $$(@D)
	$$(CC) $$(RUNTIME_INCLUDE_$(1)) $$(FLAGS) $(3) $$(CFLAGS) -pthread $$< -o $$@ \
		-L$$(BUILD) -l:libcudart.so.$(1) -Wl,-rpath-link,$$(BUILD) -Wl,-rpath,'$$$$ORIGIN/../../../..'
endef
$(foreach major,$(RUNTIME_MAJORS),\
	$(eval $(call RUNTIME_TEST_RULE,$(major),legacy,))\
	$(eval $(call RUNTIME_TEST_RULE,$(major),per_thread,-DCUDA_API_PER_THREAD_DEFAULT_STREAM)))
