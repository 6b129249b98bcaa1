# train.mk: gpt2_train, the program that trains models.  It is made of the engine's sources and its
# own.

TRAIN_CFLAGS = $(ENGINE_CFLAGS) -Isrc/train
TRAIN_PROGRAM = $(B)/gpt2_train

TRAIN_SOURCES = $(wildcard src/train/*.c)
TRAIN_OBJECTS = $(TRAIN_SOURCES:src/train/%.c=$(B)/train/%.o)
TRAIN_LIBRARY_OBJECTS = $(filter-out $(B)/train/main.o, $(TRAIN_OBJECTS))

# -fno-trapping-math: comparisons in loops become masks; no result depends on it.
TRAIN_KERNEL_FLAGS = -O3 -fno-trapping-math
$(B)/train/kernels_portable.o: KERNEL_FLAGS = $(TRAIN_KERNEL_FLAGS)
ifeq ($(ARCH),x86_64)
$(B)/train/kernels_avx2.o: KERNEL_FLAGS = $(TRAIN_KERNEL_FLAGS) -mavx2 -mfma
$(B)/train/kernels_avx512.o: KERNEL_FLAGS = $(TRAIN_KERNEL_FLAGS) $(AVX512_FLAGS)
endif

$(B)/train/%.o: src/train/%.c
	@mkdir -p $(@D)
	$(ENGINE_CC) $(TRAIN_CFLAGS) $(KERNEL_FLAGS) -MMD -MP -c $< -o $@

$(B)/libgpt2_train.a: $(TRAIN_LIBRARY_OBJECTS)
	rm -f $@ && ar rcs $@ $^

$(TRAIN_PROGRAM): $(TRAIN_OBJECTS) $(B)/libgpt2_engine.a
	$(ENGINE_CC) $(ENGINE_EXTRA) $(LDFLAGS_ENGINE) $^ $(ENGINE_LIBS) -o $@

all: $(TRAIN_PROGRAM)

.PHONY: bench-train

bench-train: $(TRAIN_PROGRAM)	## speed and memory of a step of training (124M shape)
	$(B)/gpt2_train bench

-include $(TRAIN_OBJECTS:.o=.d)
