/*
 * error.h: how the engine reports that something went wrong.
 *
 * A function that can fail returns bool (true = done) and takes a g2_error which it fills exactly
 * when it returns false.  Nothing in the engine prints, exits or aborts because of an input.
 * The code decides the SQLSTATE (table in error.c); the texts follow PostgreSQL's style: message
 * lower-case without a period, detail and hint full sentences.  Texts never hold prompt text.
 */
#ifndef G2_ERROR_H
#define G2_ERROR_H

#include <stdbool.h>

typedef enum g2_code
{
	G2_OK = 0,
	G2_E_PARAM,			/* 22023  argument, option or token id out of range or of a wrong type */
	G2_E_TOO_LONG,		/* 54000  prompt over the context, n x max_len, too many stops */
	G2_E_NAME,			/* 42602  model name invalid */
	G2_E_NOT_FOUND,		/* 42704  model not found */
	G2_E_UNSUPPORTED,	/* 0A000  architecture, activation, dtype, tokenizer, device */
	G2_E_BAD_JSON,		/* 22032  malformed config or tokenizer JSON */
	G2_E_BAD_FILE,		/* 22P03  malformed safetensors or pack */
	G2_E_NO_FILE,		/* 58P01  file missing */
	G2_E_PERMISSION,	/* 42501  not a regular file, outside the path, not readable */
	G2_E_IO,			/* 58030  I/O error */
	G2_E_DISK_FULL,		/* 53100 */
	G2_E_MEMORY,		/* 53200  model or KV memory */
	G2_E_LIMIT,			/* 53400  a limit of ours */
	G2_E_CANCELED,		/* 57014 */
	G2_E_VERSION,		/* 55000  engine of another version, switched off */
	G2_E_SYSTEM,		/* 58000  engine gone, device lost: may be tried again */
	G2_E_INTERNAL,		/* XX000  cannot happen */
	G2_N_CODES
} g2_code;

typedef struct g2_error
{
	g2_code		code;
	char		message[512];
	char		detail[512];	/* "" = none */
	char		hint[512];		/* "" = none */
	bool		of_options;		/* of a call: of what all its rows have in common */
} g2_error;

#define G2_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* The five characters of the code's SQLSTATE; static storage. */
extern const char *g2_sqlstate(g2_code code);

/* Fills err (which may be NULL) and returns false, so that callers write `return g2_fail(...)`. */
extern bool g2_fail(g2_error *err, g2_code code, const char *fmt, ...) G2_PRINTF(3, 4);

/* Adds to an error that g2_fail filled; both return false. */
extern bool g2_fail_detail(g2_error *err, const char *fmt, ...) G2_PRINTF(2, 3);
extern bool g2_fail_hint(g2_error *err, const char *fmt, ...) G2_PRINTF(2, 3);

/* Says that an error that g2_fail filled is of the call's options, labels or template: it is the
 * same whatever the row's text is, and no on_error makes it NULL.  Returns false. */
extern bool g2_fail_options(g2_error *err);

/* Out of memory in the engine itself: 53200 with the number of bytes asked for. */
extern bool g2_fail_memory(g2_error *err, unsigned long long bytes);

/* What it says in another program than the engine; strings that stay, before there are threads. */
extern void g2_memory_words(const char *program, const char *hint);

/* errno of a failed system call on a file: chooses the code (ENOENT 58P01, EACCES and ELOOP
 * 42501, ENOSPC 53100, ENOMEM 53200, otherwise 58030).  verb is "open", "read", "write"... */
extern bool g2_fail_errno(g2_error *err, int errnum, const char *verb, const char *path);

#endif							/* G2_ERROR_H */
