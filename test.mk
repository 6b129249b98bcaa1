# test.mk: `make test` and its parts.  Each part can be run alone.

UNIT_SOURCES = $(wildcard test/unit/test_*.c)
# Those that take long come first, so that at the end nothing waits for one of them.
LONG_UNIT_TESTS = $(addprefix $(B)/unit/,test_vectors_sampling test_same_bits test_vectors_large)
UNIT_PROGRAMS = $(LONG_UNIT_TESTS) $(CUDA_TESTS) $(SIMDE_PROGRAMS) $(EVEX_PROGRAMS) \
	$(filter-out $(LONG_UNIT_TESTS), $(UNIT_SOURCES:test/unit/%.c=$(B)/unit/%))
# The AVX-512 kernels over SIMDe (libsimde-dev), so that their bits are compared on machines without
# AVX-512 too; machines that have it compare the real ones in the programs without _simde.
ifneq ($(and $(filter x86_64,$(ARCH)),$(wildcard /usr/include/simde/x86/avx512.h)),)
SIMDE_PROGRAMS = $(B)/unit/test_kernels_simde $(B)/unit/test_vecmath_simde \
	$(B)/unit/test_formats_simde
endif
# The AVX-VNNI kernels with AVX-512's form of their instruction, for machines that have only that.
ifeq ($(ARCH),x86_64)
EVEX_PROGRAMS = $(B)/unit/test_formats_evex
endif
FUZZ_SOURCES = $(wildcard test/fuzz/fuzz_*.c)
FUZZ_PROGRAMS = $(FUZZ_SOURCES:test/fuzz/%.c=$(B)/fuzz/%)
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
CLANG ?= clang
FUZZ_SECONDS ?= 60
STRESS_SECONDS ?= 20
MINUTES ?= 15
MODELS ?= ../shared/models

.PHONY: test unit unit-aarch64 unit-emulated unit-sanitized fuzz fuzz-programs check-layers bench bench-kernels
.PHONY: stress stress-run soak soak-sanitized check-versions check-transformers bench-load bench-rows bench-peers bench-constraints bench-adapters

test:                   ## everything: compilers, unit tests, sanitizers, fuzzing, SQL, faults
	scripts/test.sh

unit: $(UNIT_PROGRAMS)  ## unit tests of the engine
	scripts/run_unit.sh $(MODELS) $(UNIT_PROGRAMS)

unit-aarch64:           ## the kernels' tests for 64-bit ARM, in an emulator
	@command -v qemu-aarch64 >/dev/null && command -v aarch64-linux-gnu-gcc >/dev/null || { \
	  echo "needs, with 'dpkg --add-architecture arm64': qemu-user gcc-aarch64-linux-gnu" \
	    "libcmocka-dev:arm64 libcjson-dev:arm64 libpcre2-dev:arm64 libssl-dev:arm64"; exit 1; }
	$(MAKE) unit-emulated B=build/aarch64 ARCH=aarch64 ENGINE_CC=aarch64-linux-gnu-gcc

unit-emulated: $(B)/unit/test_kernels $(B)/unit/test_formats
	qemu-aarch64 $(B)/unit/test_kernels
	qemu-aarch64 $(B)/unit/test_formats

unit-sanitized:         ## the same under AddressSanitizer and UndefinedBehaviorSanitizer
	$(MAKE) unit $(patsubst $(B)/%,build/asan/%,$(B)/gpt2_engine $(TRAIN_PROGRAM)) B=build/asan \
	  ENGINE_CC=$(CLANG) KERNEL_CXX='$(CLANG) --driver-mode=g++' ENGINE_EXTRA='$(SANITIZE)'

fuzz:                   ## each fuzzer for FUZZ_SECONDS (60; CI: 30), from the corpus in test/fuzz
	$(MAKE) fuzz-programs B=build/fuzzing ENGINE_CC=$(CLANG) \
	  ENGINE_EXTRA='$(SANITIZE) -fsanitize=fuzzer-no-link'
	scripts/run_fuzz.sh build/fuzzing/fuzz $(FUZZ_SECONDS)

fuzz-programs: $(FUZZ_PROGRAMS)

check-transformers:     ## trained models in transformers and PEFT (from PyPI: 6 GB, two minutes)
	scripts/check_transformers.sh

stress:                 ## 32 clients against an engine, STRESS_SECONDS (20), with and without ThreadSanitizer
	$(MAKE) stress-run B=build/tsan ENGINE_CC=$(CLANG) ENGINE_EXTRA='-fsanitize=thread'
	$(MAKE) stress-run

stress-run: $(B)/stress/stress_engine
	$< $(STRESS_SECONDS)

soak:                   ## one server for MINUTES (15): everything at once, at random, with faults
	SOAK_MINUTES=$(MINUTES) JOBS=1 scripts/test_server.sh test/soak/soak.pl

soak-sanitized:         ## the same with an engine under AddressSanitizer and UndefinedBehaviorSanitizer
	$(MAKE) build/asan/gpt2_engine B=build/asan ENGINE_CC=$(CLANG) ENGINE_EXTRA='$(SANITIZE)'
	SOAK_ENGINE=build/asan/gpt2_engine $(MAKE) soak

check-layers:           ## the engine includes nothing of PostgreSQL, the library only protocol*.h
	scripts/check_layers.sh

check-versions:         ## builds for PostgreSQL 13, 14, 16, 17, 18 (servers from PyPI), and runs the SQL tests there (PARTS=all: all with a server)
	scripts/check_versions.sh

bench-load:             ## many clients: rates, waiting times, a long run (LOAD_SECONDS, 60), neighbours
	scripts/bench_load.sh

bench-peers:            ## the engine beside llama.cpp, CTranslate2 and PyTorch (from PyPI; an hour; PEERS_MODEL=xl)
	scripts/bench_peers.sh

bench-rows:             ## rows of one query in flight, against row by row and the engine alone
	scripts/bench_rows.sh

bench-adapters:         ## adapters beside their base: speed and memory (124M shape, q8, rank 8; four minutes)
	scripts/bench_adapters.sh

bench: all              ## speed of the engine against the machine's limits (124M shape)
	scripts/bench.sh

$(B)/unit/%: test/unit/%.c $(wildcard test/unit/*.h) $(B)/libgpt2_engine.a
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -Itest/unit $< $(B)/libgpt2_engine.a \
	  -lcmocka $(ENGINE_LIBS) -o $@

# Steps cost there what fixed_cost.h says.
$(B)/unit/test_constraints $(B)/unit/test_decoding: ENGINE_LIBS += -Wl,--wrap=g2_cost_learn

$(B)/unit/test_train_%: test/unit/test_train_%.c $(wildcard test/unit/*.h) $(B)/libgpt2_train.a \
		$(B)/libgpt2_engine.a
	@mkdir -p $(@D)
	$(ENGINE_CC) $(TRAIN_CFLAGS) -Itest/unit $< $(B)/libgpt2_train.a $(B)/libgpt2_engine.a \
	  -lcmocka $(ENGINE_LIBS) -o $@

$(B)/stress/%: test/stress/%.c $(wildcard test/stress/*.h test/unit/*.h) $(B)/libgpt2_engine.a
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -Itest/unit $< $(B)/libgpt2_engine.a \
	  -lcmocka $(ENGINE_LIBS) -o $@

# -Wno-psabi: vectors of 64 bytes are passed in memory here, on both sides of every call.
$(B)/simde/kernels_avx512.o: src/engine/kernels_avx512.c
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -mavx2 -mfma -Wno-psabi -DSIMDE_ENABLE_NATIVE_ALIASES \
	  -include test/unit/simde_avx512.h -MMD -MP -c $< -o $@

-include $(B)/simde/kernels_avx512.d

# The object stands before the library, whose own g2_kernels_avx512 is then not taken.
$(B)/unit/%_simde: test/unit/%.c $(B)/simde/kernels_avx512.o $(B)/libgpt2_engine.a
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -DG2_TEST_SIMDE $^ -lcmocka $(ENGINE_LIBS) -o $@

$(B)/evex/kernels_avxvnni.o: src/engine/kernels_avxvnni.c
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -mavx2 -mfma -mf16c -mavx512vnni -mavx512vl -DG2_TEST_EVEX \
	  -MMD -MP -c $< -o $@

-include $(B)/evex/kernels_avxvnni.d

$(B)/unit/%_evex: test/unit/%.c $(B)/evex/kernels_avxvnni.o $(B)/libgpt2_engine.a
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -DG2_TEST_EVEX $^ -lcmocka $(ENGINE_LIBS) -o $@

$(B)/fuzz/%: test/fuzz/%.c $(wildcard test/fuzz/*.h) $(B)/libgpt2_engine.a
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -fsanitize=fuzzer $< $(B)/libgpt2_engine.a \
	  $(ENGINE_LIBS) -o $@

# A client of the server: it knows libpq and nothing of the engine.
$(B)/bench/stream_clients: test/bench/stream_clients.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O2 -g -D_GNU_SOURCE -Wall -Wextra -Wshadow $(WERROR) \
	  -I$(shell $(PG_CONFIG) --includedir) $< -L$(shell $(PG_CONFIG) --libdir) -lpq -o $@

# OpenBLAS, where its package libopenblas-dev is installed, is the yardstick.
BENCH_BLAS = $(if $(wildcard /usr/lib/*/libopenblas.so),-DG2_BENCH_OPENBLAS)

# A folder with a byte-level vocabulary; the figures of docs/performance.md are of GPT-2's.
CONSTRAINTS_MODEL ?= models/demo

bench-constraints: $(B)/bench/bench_constraints	## what choice, regex and json_schema cost (CONSTRAINTS_MODEL)
	$< $(CONSTRAINTS_MODEL)

bench-kernels: $(B)/bench/bench_kernels	## the CPU products, against OpenBLAS where it is there

$(B)/bench/%: test/bench/%.c $(B)/libgpt2_engine.a
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) $(BENCH_BLAS) $< $(B)/libgpt2_engine.a \
	  $(if $(BENCH_BLAS),-lopenblas) $(ENGINE_LIBS) -o $@
