# engine.mk: the engine process and its kernels; plain C11, no PostgreSQL header.

# Where objects go; sanitizer builds use another place beside it.
B ?= build
ENGINE_CC ?= $(CC)
ENGINE_LIBS = -lcjson -lpcre2-8 -lutf8proc -lcrypto -lpthread -lm
# -ffp-contract=off: both compilers fuse a*b+c silently otherwise, and results must not depend on
# the compiler (FMA stands where it is written).
ENGINE_CFLAGS = -std=gnu11 -O2 -g -ffp-contract=off -fno-math-errno -fvisibility=hidden \
	-D_GNU_SOURCE -Isrc/engine -Wall -Wextra -Wshadow -Wstrict-prototypes -Wvla \
	$(WERROR) $(ENGINE_EXTRA)

ENGINE_SOURCES = $(wildcard src/engine/*.c)
ENGINE_OBJECTS = $(ENGINE_SOURCES:src/engine/%.c=$(B)/engine/%.o)
# Everything but the program's main, for tests.
ENGINE_LIBRARY_OBJECTS = $(filter-out $(B)/engine/main.o, $(ENGINE_OBJECTS))

ARCH ?= $(shell uname -m)
ifeq ($(ARCH),x86_64)
$(B)/engine/kernels_avx2.o: KERNEL_FLAGS = -mavx2 -mfma -mf16c
$(B)/engine/kernels_avxvnni.o: KERNEL_FLAGS = -mavx2 -mfma -mf16c -mavxvnni
AVX512_FLAGS = -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma
$(B)/engine/kernels_avx512.o: KERNEL_FLAGS = $(AVX512_FLAGS)
$(B)/engine/kernels_avx512vnni.o: KERNEL_FLAGS = $(AVX512_FLAGS) -mavx512vnni
$(B)/engine/kernels_avx512bf16.o: KERNEL_FLAGS = $(AVX512_FLAGS) -mavx512vnni -mavx512bf16
else ifeq ($(ARCH),aarch64)
$(B)/engine/kernels_neon.o: KERNEL_FLAGS = -march=armv8.2-a+dotprod
endif

$(B)/engine/%.o: src/engine/%.c
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) $(KERNEL_FLAGS) -MMD -MP -c $< -o $@

$(B)/gpt2_engine: $(ENGINE_OBJECTS)
	$(ENGINE_CC) $(ENGINE_EXTRA) $(LDFLAGS_ENGINE) $^ $(ENGINE_LIBS) -o $@

$(B)/libgpt2_engine.a: $(ENGINE_LIBRARY_OBJECTS)
	rm -f $@ && ar rcs $@ $^

-include $(ENGINE_OBJECTS:.o=.d)
