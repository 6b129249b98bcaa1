# test.mk: `make test` and its parts.  Each part can be run alone.

UNIT_SOURCES = $(wildcard test/unit/test_*.c)
UNIT_PROGRAMS = $(UNIT_SOURCES:test/unit/%.c=$(B)/unit/%)
FUZZ_SOURCES = $(wildcard test/fuzz/fuzz_*.c)
FUZZ_PROGRAMS = $(FUZZ_SOURCES:test/fuzz/%.c=$(B)/fuzz/%)
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
CLANG ?= clang
FUZZ_SECONDS ?= 60
STRESS_SECONDS ?= 20
MODELS ?= ../shared/models

.PHONY: test unit unit-sanitized fuzz fuzz-programs check-layers bench bench-kernels
.PHONY: stress stress-run

test:                   ## everything: compilers, unit tests, sanitizers, fuzzing, SQL, faults
	scripts/test.sh

unit: $(UNIT_PROGRAMS)  ## unit tests of the engine
	scripts/run_unit.sh $(MODELS) $(UNIT_PROGRAMS)

unit-sanitized:         ## the same under AddressSanitizer and UndefinedBehaviorSanitizer
	$(MAKE) unit B=build/asan ENGINE_CC=$(CLANG) ENGINE_EXTRA='$(SANITIZE)'

fuzz:                   ## each fuzzer for FUZZ_SECONDS (60), from the corpus in test/fuzz
	$(MAKE) fuzz-programs B=build/fuzzing ENGINE_CC=$(CLANG) \
	  ENGINE_EXTRA='$(SANITIZE) -fsanitize=fuzzer-no-link'
	scripts/run_fuzz.sh build/fuzzing/fuzz $(FUZZ_SECONDS)

fuzz-programs: $(FUZZ_PROGRAMS)

stress:                 ## 32 clients against an engine, STRESS_SECONDS (20), with and without ThreadSanitizer
	$(MAKE) stress-run B=build/tsan ENGINE_CC=$(CLANG) ENGINE_EXTRA='-fsanitize=thread'
	$(MAKE) stress-run

stress-run: $(B)/stress/stress_engine
	$< $(STRESS_SECONDS)

check-layers:           ## the engine includes nothing of PostgreSQL, the library only protocol.h
	scripts/check_layers.sh

bench: all              ## speed of the engine against the machine's limits (124M shape)
	scripts/bench.sh

$(B)/unit/%: test/unit/%.c $(wildcard test/unit/*.h) $(B)/libgpt2_engine.a
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -Itest/unit $< $(B)/libgpt2_engine.a \
	  -lcmocka $(ENGINE_LIBS) -o $@

$(B)/stress/%: test/stress/%.c $(wildcard test/stress/*.h test/unit/*.h) $(B)/libgpt2_engine.a
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -Itest/unit $< $(B)/libgpt2_engine.a \
	  -lcmocka $(ENGINE_LIBS) -o $@

$(B)/fuzz/%: test/fuzz/%.c $(B)/libgpt2_engine.a
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -fsanitize=fuzzer $< $(B)/libgpt2_engine.a \
	  $(ENGINE_LIBS) -o $@

# OpenBLAS, where its package libopenblas-dev is installed, is the yardstick.
BENCH_BLAS = $(if $(wildcard /usr/include/*/cblas.h),-DG2_BENCH_OPENBLAS)

bench-kernels: $(B)/bench/bench_kernels	## the CPU products, against OpenBLAS where it is there

$(B)/bench/%: test/bench/%.c $(B)/libgpt2_engine.a
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) $(BENCH_BLAS) $< $(B)/libgpt2_engine.a \
	  $(if $(BENCH_BLAS),-lopenblas) $(ENGINE_LIBS) -o $@
