# cuda.mk: the CUDA back end (kernels/): gpt2_cuda.so where nvcc is there, and its emulation on the
# CPU for unit tests, which needs only g++.
#   CUDA=no          leaves gpt2_cuda.so out; the default is yes where nvcc exists
#   CUDA_ARCHS=...   compute capabilities, "80 90"; all: what CI builds
#   CUDA_HOME=...    the toolkit, where nvcc is not on PATH
#   BENCH_GPU=...    options of bench_gpu (--help), for bench-gpu

CUDA_HOME ?= /usr/local/cuda
NVCC ?= $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard $(CUDA_HOME)/bin/nvcc))
CUDA_ROOT = $(if $(NVCC),$(patsubst %/bin/nvcc,%,$(realpath $(NVCC))),$(CUDA_HOME))
CUDA ?= $(if $(and $(NVCC),$(wildcard kernels/*.cu)),yes,no)
KERNEL_CXX ?= g++

# Kernels are nvcc's; the host's side, cuda_*.cpp, is C++ that makes its calls through runtime.h.
CUDA_SOURCES = $(wildcard kernels/*.cu)
CUDA_HOST_SOURCES = $(wildcard kernels/cuda_*.cpp)
CUDA_HEADERS = $(wildcard kernels/*.h kernels/*.cuh) $(addprefix src/engine/,backend.h error.h util.h \
	weights.h plan_check.h plan_queue.h philox.h vecmath.h vecmath_body.h sampler.h sampler_math.h)
# What the shared object has of the engine, compiled once more for it.
CUDA_ENGINE_SOURCES = error.c util.c weights.c plan_check.c plan_queue.c graph_check.c

# ---- the shared object ----

CUDA_WANTED = $(if $(filter all,$(CUDA_ARCHS)),80 86 89 90 100 120,$(or $(CUDA_ARCHS),80 90))
# Of what is wanted, what this toolkit can compile for.
CUDA_KNOWN = $(patsubst sm_%,%,$(if $(NVCC),$(shell $(NVCC) --list-gpu-code)))
CUDA_CODE = $(filter $(CUDA_KNOWN),$(CUDA_WANTED))
# PTX for what is newer than all of these.
CUDA_GENCODE = $(foreach a,$(CUDA_CODE),-gencode arch=compute_$(a),code=sm_$(a)) \
	-gencode arch=compute_80,code=compute_80
# -fmad=false: nvcc contracts a*b+c otherwise, and results must not depend on it.  A register that
# is spilled to memory fails the build: then a kernel's shape is wrong.
NVCCFLAGS = -std=c++17 -O3 -fmad=false -Xptxas -warn-spills,-Werror -Werror all-warnings -lineinfo \
	--threads 2 -Xcompiler -fPIC,-fvisibility=hidden,-ffp-contract=off -Isrc/engine -Ikernels

CUDA_OBJECTS = $(CUDA_SOURCES:kernels/%.cu=$(B)/cuda/%.o) \
	$(CUDA_HOST_SOURCES:kernels/%.cpp=$(B)/cuda/%.o) $(B)/cuda/arena.o \
	$(CUDA_ENGINE_SOURCES:%.c=$(B)/cuda/engine_%.o)

# Changes, and the objects with it, when other architectures are asked for.
.PHONY: ask
$(B)/cuda/architectures: ask
	@mkdir -p $(@D)
	@echo '$(CUDA_CODE)' | cmp -s - $@ || echo '$(CUDA_CODE)' >$@

$(B)/cuda/%.o: kernels/%.cu $(CUDA_HEADERS) $(B)/cuda/architectures
	@mkdir -p $(@D)
	$(NVCC) $(NVCCFLAGS) $(CUDA_GENCODE) -c $< -o $@

$(B)/cuda/%.o: kernels/%.cpp $(CUDA_HEADERS)
	@mkdir -p $(@D)
	$(KERNEL_CXX) $(KERNEL_CXXFLAGS) -fvisibility=hidden -c $< -o $@

$(B)/cuda/arena.o: kernels/arena.c $(CUDA_HEADERS)
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -fPIC -Ikernels -c $< -o $@

$(B)/cuda/engine_%.o: src/engine/%.c $(CUDA_HEADERS)
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -fPIC -c $< -o $@

$(B)/gpt2_cuda.so: $(CUDA_OBJECTS)
	$(NVCC) -shared --cudart static -Xlinker --exclude-libs=ALL $^ -o $@

ifeq ($(CUDA),yes)
all: $(B)/gpt2_cuda.so
install-engine: install-cuda
endif

.PHONY: cuda install-cuda
cuda: $(B)/gpt2_cuda.so	## gpt2_cuda.so for CUDA_ARCHS (80 90; all: every one that CI builds)

install-cuda: $(B)/gpt2_cuda.so
	$(MKDIR_P) '$(DESTDIR)$(pkglibdir)'
	$(INSTALL_PROGRAM) $(B)/gpt2_cuda.so '$(DESTDIR)$(pkglibdir)/gpt2_cuda.so'

# ---- the emulation ----

EMU_SOURCES = $(filter-out kernels/runtime_cuda.cu,$(CUDA_SOURCES))
EMU_OBJECTS = $(EMU_SOURCES:kernels/%.cu=$(B)/emu/%.o) \
	$(CUDA_HOST_SOURCES:kernels/%.cpp=$(B)/emu/%.o) $(B)/emu/arena.o $(B)/emu/emulator.o \
	$(B)/emu/runtime_emu.o
# Emulated kernels run where they are built: fused multiply-add is one instruction if that has it.
EMU_FMA = $(if $(filter x86_64,$(ARCH)),$(if $(shell grep -m1 -w -o fma /proc/cpuinfo),-mfma))
EMU_CXXFLAGS = $(EMU_FMA) $(KERNEL_CXXFLAGS)
KERNEL_CXXFLAGS = -std=gnu++17 -O2 -g -fPIC -ffp-contract=off -fno-math-errno -Isrc/engine -Ikernels -Wall \
	-Wextra -Wno-unknown-pragmas -Wno-pass-failed $(WERROR) $(ENGINE_EXTRA)

$(B)/emu/%.o: kernels/%.cu
	@mkdir -p $(@D)
	$(KERNEL_CXX) $(EMU_CXXFLAGS) -MMD -MP -x c++ -c $< -o $@

$(B)/emu/%.o: kernels/%.cpp
	@mkdir -p $(@D)
	$(KERNEL_CXX) $(EMU_CXXFLAGS) -MMD -MP -c $< -o $@

$(B)/emu/arena.o: kernels/arena.c $(CUDA_HEADERS)
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -fPIC -Ikernels -c $< -o $@

-include $(EMU_OBJECTS:.o=.d)

# Tests of the kernels (C++), and the CPU back end's own tests over the emulated device.
CUDA_TESTS = $(patsubst test/unit/%.cpp,$(B)/unit/%,$(wildcard test/unit/test_cuda_*.cpp)) \
	$(B)/unit/test_backend_cuda $(B)/unit/test_backend_rules_cuda $(B)/unit/bench_gpu

$(B)/emu/test/%.o: test/unit/%.cpp $(wildcard test/unit/*.h) $(CUDA_HEADERS)
	@mkdir -p $(@D)
	$(KERNEL_CXX) $(EMU_CXXFLAGS) -Itest/unit -c $< -o $@

$(B)/emu/test/%.o: test/unit/%.c $(wildcard test/unit/*.h) $(CUDA_HEADERS)
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -DG2_TEST_CUDA -Itest/unit -Ikernels -c $< -o $@

$(B)/unit/test_cuda_%: $(B)/emu/test/test_cuda_%.o $(EMU_OBJECTS) $(B)/libgpt2_engine.a
	@mkdir -p $(@D)
	$(KERNEL_CXX) $(ENGINE_EXTRA) $(LINK_DEVICES) $(filter %.o %.a,$^) -lcmocka $(ENGINE_LIBS) -o $@

$(B)/unit/test_%_cuda: $(B)/emu/test/test_%.o $(EMU_OBJECTS) $(B)/libgpt2_engine.a
	@mkdir -p $(@D)
	$(KERNEL_CXX) $(ENGINE_EXTRA) $^ -lcmocka $(ENGINE_LIBS) -o $@

# The benchmark of bench-gpu, which runs through there in a small size.
BENCH_GPU_FLAGS = -I$(CUDA_ROOT)/include -DCUDA_LIBRARIES='"$(CUDA_ROOT)/lib64"'

$(B)/emu/bench/%.o: test/bench/%.cpp test/unit/reserve_blocks.h $(wildcard test/bench/*.h) $(CUDA_HEADERS)
	@mkdir -p $(@D)
	$(KERNEL_CXX) $(EMU_CXXFLAGS) $(BENCH_GPU_FLAGS) -Itest/unit -c $< -o $@

$(B)/unit/bench_gpu: $(addprefix $(B)/emu/bench/,bench_gpu.o bench_products.o cublaslt.o) $(EMU_OBJECTS) \
		$(B)/libgpt2_engine.a
	@mkdir -p $(@D)
	$(KERNEL_CXX) $(ENGINE_EXTRA) $^ $(ENGINE_LIBS) -ldl -o $@

# devices.c finds its libraries as in an installation: the back end, emulated, beside the program;
# for the driver an empty one.
$(B)/unit/gpt2_cuda.so: $(EMU_OBJECTS) $(CUDA_ENGINE_SOURCES:%.c=$(B)/cuda/engine_%.o)
	@mkdir -p $(@D)
	$(KERNEL_CXX) $(ENGINE_EXTRA) -shared -Wl,-Bsymbolic $^ -lpthread -o $@

$(B)/unit/driver/libcuda.so.1:
	@mkdir -p $(@D)
	echo | $(ENGINE_CC) -shared -x c - -o $@

# Of C, but for a C++ library, whose sanitizers need more of their runtime.
DEVICE_TESTS = $(B)/unit/test_device_options $(B)/unit/test_device_slots

$(B)/unit/test_cuda_devices $(DEVICE_TESTS): LINK_DEVICES = -Wl,-rpath,'$$ORIGIN:$$ORIGIN/driver'
$(B)/unit/test_cuda_devices $(DEVICE_TESTS): $(B)/unit/gpt2_cuda.so $(B)/unit/driver/libcuda.so.1

$(DEVICE_TESTS): $(B)/unit/%: $(B)/emu/test/%.o $(B)/libgpt2_engine.a
	$(KERNEL_CXX) $(ENGINE_EXTRA) $(LINK_DEVICES) $(filter %.o %.a,$^) -lcmocka $(ENGINE_LIBS) -o $@

# ---- on a GPU ----

# The same tests over the real runtime; they link the back end's objects, and need no file but those
# of the checkout.
GPU_TESTS = $(addprefix $(B)/gpu/,test_cuda_rows test_cuda_products test_backend test_backend_rules \
	test_cuda_cache test_cuda_model)
GPU_OBJECTS = $(filter-out $(B)/cuda/engine_%,$(CUDA_OBJECTS))

.PHONY: test-gpu bench-gpu
test-gpu: $(GPU_TESTS)	## on a machine with a GPU: the back end's tests, also under compute-sanitizer
	scripts/test_gpu.sh $(GPU_TESTS)

bench-gpu: $(B)/gpu/bench_gpu	## on a machine with a GPU: its speed beside limits, libraries and other programs
	scripts/bench_gpu.sh $< $(BENCH_GPU)

$(B)/gpu/%.o: test/unit/%.c $(wildcard test/unit/*.h) $(CUDA_HEADERS)
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -DG2_TEST_CUDA -DG2_TEST_GPU -Itest/unit -Ikernels -c $< -o $@

$(B)/gpu/%.o: test/unit/%.cpp $(wildcard test/unit/*.h) $(CUDA_HEADERS)
	@mkdir -p $(@D)
	$(KERNEL_CXX) $(KERNEL_CXXFLAGS) -DG2_TEST_GPU -Itest/unit -c $< -o $@

$(B)/gpu/%.o: test/bench/%.cpp test/unit/reserve_blocks.h $(wildcard test/bench/*.h) $(CUDA_HEADERS)
	@mkdir -p $(@D)
	$(KERNEL_CXX) $(KERNEL_CXXFLAGS) $(BENCH_GPU_FLAGS) -Itest/unit -c $< -o $@

$(B)/gpu/bench_gpu: $(B)/gpu/bench_products.o $(B)/gpu/cublaslt.o

$(B)/gpu/%: $(B)/gpu/%.o $(GPU_OBJECTS) $(B)/libgpt2_engine.a
	$(NVCC) --cudart static $^ -lcmocka $(ENGINE_LIBS) -o $@
