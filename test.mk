# test.mk: make test and its parts.
