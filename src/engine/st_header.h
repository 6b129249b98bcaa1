/*
 * st_header.h: what the header of a safetensors file says, entry by entry.  Private to safetensors.c
 * and st_header.c.
 */
#ifndef G2_ST_HEADER_H
#define G2_ST_HEADER_H

#include "safetensors.h"
#include "st_scan.h"

typedef struct st_entry
{
	g2_tensor	tensor;			/* begin, end: from the data's start while entries are read */
	uint64_t	at;				/* byte offset of the entry in the header */
} st_entry;

typedef struct st_chunk st_chunk;

struct g2_safetensors
{
	char	   *path;
	int			fd;
	uint64_t	file_size;
	uint64_t	data_begin;
	st_entry   *entries;		/* in the order of their data */
	uint32_t	n;
	uint32_t	cap;
	uint32_t   *by_name;
	st_chunk   *names;
};

/* Reads all entries; file_size and data_begin are known.  22P03 where one, or all together, are not
 * as they must be. */
extern bool g2_st_read_entries(st_scan *s, g2_safetensors *st);

/* Frees what that has made, also after a failure. */
extern void g2_st_free_entries(g2_safetensors *st);

#endif							/* G2_ST_HEADER_H */
