/*
 * usage_table.h: what usage.c (the table) and usage_file.c (opening, saving) share.
 */
#ifndef G2_USAGE_TABLE_H
#define G2_USAGE_TABLE_H

#include "usage.h"

struct g2_usage
{
	g2_usage_clock clock;
	uint32_t	month;			/* of the last look at the clock */
	g2_usage_row *rows;			/* [cap]; a row's name is memory of its own */
	uint32_t	n;
	uint32_t	cap;
	uint32_t   *slots;			/* [n_slots], index of a row + 1; 0 = free */
	uint32_t	n_slots;		/* 2 cap, a power of two */
	g2_usage_row others[G2_USAGE_MONTHS];	/* month 0 = not used */
	/* the file */
	char	   *path;			/* NULL = not saved */
	uint64_t	system_identifier;
	uint32_t	timeline;
	uint64_t	changes;		/* goes up with every change */
	uint64_t	written;		/* what it was in the file */
	bool		under_way;		/* a copy has not come back yet */
};

#endif							/* G2_USAGE_TABLE_H */
