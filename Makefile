# gpt2: text generation inside PostgreSQL.  `make help` lists the targets.

EXTENSION = gpt2
MODULE_big = gpt2
DATA = $(wildcard sql/gpt2--*.sql)

PG_SOURCES = $(wildcard src/*.c)
# The wire format is the one part of the engine that the library shares.
OBJS = $(PG_SOURCES:.c=.o) src/engine/protocol.o src/engine/protocol_io.o \
	src/engine/protocol_score.o src/engine/protocol_train.o src/engine/protocol_watch.o
PG_CPPFLAGS = -I$(CURDIR)/src
PG_CFLAGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wvla \
	-Wno-declaration-after-statement -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-cast-function-type $(WERROR)
ifneq ($(findstring clang,$(CC)),)
# Debian's PostgreSQL was built with gcc: flags in pg_config that clang does not know.
PG_CFLAGS += -Wno-ignored-optimization-argument -Wno-unknown-warning-option \
	-Wno-ignored-attributes -Wno-compound-token-split-by-macro
endif
# LLVM bitcode is of no use for functions that wait for another process.
override with_llvm := no

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
EXTRA_CLEAN = build
B ?= build

all: $(B)/gpt2_engine

include $(PGXS)

include engine.mk
include train.mk
include cuda.mk
include test.mk

# PGXS knows no header dependencies of its own.
$(OBJS): $(wildcard src/*.h) $(wildcard src/engine/protocol*.h)

install: install-engine install-demo-model
uninstall: uninstall-engine uninstall-demo-model

.PHONY: install-engine uninstall-engine install-demo-model uninstall-demo-model help demo \
	demo-model setup

install-engine: $(B)/gpt2_engine $(TRAIN_PROGRAM)
	$(MKDIR_P) '$(DESTDIR)$(pkglibdir)'
	$(INSTALL_PROGRAM) $(B)/gpt2_engine $(TRAIN_PROGRAM) '$(DESTDIR)$(pkglibdir)/'

uninstall-engine:
	rm -f '$(DESTDIR)$(pkglibdir)/gpt2_engine' '$(DESTDIR)$(pkglibdir)/gpt2_train' \
		'$(DESTDIR)$(pkglibdir)/gpt2_cuda.so'

DEMO_FILES = config.json generation_config.json tokenizer_config.json gpt2.json \
	vocab.json merges.txt model.safetensors held_out.txt
modeldir = $(DESTDIR)$(datadir)/gpt2/models/demo

install-demo-model:
	$(MKDIR_P) '$(modeldir)'
	for f in $(DEMO_FILES); do \
	  if [ -f models/demo/$$f ]; then $(INSTALL_DATA) models/demo/$$f '$(modeldir)/' || exit 1; fi; \
	done

uninstall-demo-model:
	rm -rf '$(DESTDIR)$(datadir)/gpt2/models/demo'

setup:                  ## install the Debian/Ubuntu packages that are missing
	scripts/setup.sh

demo:                   ## a private server with 200 tickets summarized by the demo model
	scripts/demo.sh

demo-model:             ## make models/demo anew with gpt_train: a quarter of an hour on two cores
	scripts/demo_model.sh

help:                   ## this list
	@printf '%-16s %s\n' all 'build gpt2.so, gpt2_engine and gpt2_train'
	@printf '%-16s %s\n' install 'install them, the SQL scripts and the demo model'
	@printf '%-16s %s\n' clean 'remove what was built'
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | \
	  while IFS="$$(printf '\t')" read -r t h; do printf '%-16s %s\n' "$$t" "$$h"; done
