/*
 * st_scan.h: the lexical half of the safetensors reader: bytes of the header, read through a
 * window of bounded size, as the few JSON tokens that the format allows.  Private to safetensors.c,
 * st_header.c and st_scan.c.
 */
#ifndef G2_ST_SCAN_H
#define G2_ST_SCAN_H

#include "util.h"

typedef struct st_scan
{
	const char *path;
	int			fd;				/* -1: the window is all there is */
	const unsigned char *p;		/* next byte and end of what the window holds */
	const unsigned char *end;
	uint64_t	window_end;		/* file offset of `end` */
	uint64_t	header_end;		/* file offset behind the header */
	unsigned char *window;		/* NULL when the bytes belong to somebody else */
	char		tensor[80];		/* the tensor being read, for messages; "" = none */
	g2_error   *err;
	bool		failed;			/* err is filled */
} st_scan;

/* Starts at the header's first byte.  With a file the window is allocated. */
extern bool g2_st_scan_start(st_scan *s, uint64_t at);
extern void g2_st_scan_free(st_scan *s);

/* File offset of the next byte. */
extern uint64_t g2_st_scan_at(const st_scan *s);

/* The next byte without taking it; -1 at the header's end or after an error. */
extern int	g2_st_scan_peek(st_scan *s);

/* As g2_st_scan_peek after white space. */
extern int	g2_st_scan_token(st_scan *s);

/* Takes the byte c after white space, or fails with "<c> expected". */
extern bool g2_st_scan_take(st_scan *s, char c);

/* A comma (then *more = true) or the closing bracket. */
extern bool g2_st_scan_next(st_scan *s, char close, bool *more);

/* A string, decoded into out[0..cap) with a NUL behind it; out = NULL only checks it. */
extern bool g2_st_scan_string(st_scan *s, char *out, size_t cap);

/* A whole number without a sign. */
extern bool g2_st_scan_uint(st_scan *s, const char *what, uint64_t *value);

/* 22P03 with path, byte offset and tensor; the first error stays. */
extern bool g2_st_scan_fail(st_scan *s, const char *fmt, ...) G2_PRINTF(2, 3);
extern bool g2_st_scan_fail_at(st_scan *s, uint64_t at, const char *fmt, ...) G2_PRINTF(3, 4);

/* The same, of a file that ends too early. */
extern bool g2_st_scan_fail_short(st_scan *s, uint64_t at, const char *fmt, ...) G2_PRINTF(3, 4);

#endif							/* G2_ST_SCAN_H */
