/*
 * pickle_machine.h: the stack machine of pickle.c and the values of pickle_values.c.  Internal to
 * them; an engine reads pickles only by hand, on one thread.
 *
 * Values are small records.  Those of a tuple are in an array of all tuples' values, in which
 * nothing is ever changed; a dictionary is a number, and its items are kept only where they are
 * tensors.  So no value can contain itself, nothing recurses, and memory is bounded by the number
 * of instructions and by the limits of pickle.h.
 */
#ifndef G2_PICKLE_MACHINE_H
#define G2_PICKLE_MACHINE_H

#include "pickle.h"

typedef enum g2_pickle_kind
{
	P_MARK, P_NOTHING, P_INTEGER, P_TEXT, P_TUPLE, P_DICTIONARY, P_LIST, P_NAME,
	P_STORAGE, P_TENSOR, P_OTHER
} g2_pickle_kind;

/* The names that may be "called", and those of storages behind them. */
enum
{
	P_ORDERED_DICT, P_REBUILD_TENSOR, P_REBUILD_PARAMETER, P_FIRST_STORAGE
};

typedef struct g2_pickle_value
{
	g2_pickle_kind kind;
	uint32_t	n;				/* TUPLE: its values; NAME: index; DICTIONARY: number */
	union
	{
		int64_t		integer;
		g2_pickle_text text;
		size_t		first;		/* TUPLE: into items; STORAGE, TENSOR: into their arrays */
	}			u;
} g2_pickle_value;

typedef struct g2_pickle_values
{
	g2_pickle_value *data;
	size_t		len;
	size_t		cap;
} g2_pickle_values;

typedef struct g2_pickle_storage
{
	g2_storage	type;
	g2_pickle_text key;
	uint64_t	count;
} g2_pickle_storage;

typedef struct g2_pickle_record
{
	g2_pickle_tensor t;
	bool		contiguous;
} g2_pickle_record;

/* An item of a dictionary. */
typedef struct g2_pickle_item
{
	uint32_t	dictionary;
	g2_pickle_text name;
	size_t		tensor;
} g2_pickle_item;

typedef struct g2_pickle_machine
{
	const char *path;
	const unsigned char *data;
	size_t		len;
	size_t		at;				/* next byte */
	size_t		instruction;	/* place of the current one, for messages */
	g2_pickle_values stack;
	g2_pickle_values items;			/* of tuples */
	g2_pickle_values memo;
	g2_pickle_storage *storages;
	size_t		n_storages;
	size_t		cap_storages;
	g2_pickle_record *tensors;
	size_t		n_tensors;
	size_t		cap_tensors;
	g2_pickle_item *members;		/* of dictionaries */
	size_t		n_members;
	size_t		cap_members;
	uint32_t	n_dictionaries;
	g2_error   *err;
} g2_pickle_machine;

/* 22P03 and 0A000 with the place of the instruction; both return false, as all below do. */
extern bool g2_pickle_malformed(const g2_pickle_machine *m, const char *what);
extern bool g2_pickle_refused(const g2_pickle_machine *m, const char *what);

extern bool g2_pickle_append(const g2_pickle_machine *m, g2_pickle_values *v, g2_pickle_value x);
extern bool g2_pickle_push(g2_pickle_machine *m, g2_pickle_value x);
extern bool g2_pickle_pop(g2_pickle_machine *m, g2_pickle_value *x);

/* The values above the last mark, which goes; they stay in the array behind its new end. */
extern bool g2_pickle_pop_mark(g2_pickle_machine *m, size_t *first, size_t *n);

/* A tuple of n values from stack[first] on; of the last n <= 3. */
extern bool g2_pickle_push_tuple(g2_pickle_machine *m, size_t first, size_t n);
extern bool g2_pickle_push_short_tuple(g2_pickle_machine *m, size_t n);

/* One of the names that are known; an empty dictionary. */
extern bool g2_pickle_push_name(g2_pickle_machine *m, g2_pickle_text module, g2_pickle_text name);
extern bool g2_pickle_push_dictionary(g2_pickle_machine *m);

/* Items of the dictionary on top of the stack: stack[first] -> stack[first + 1], ... */
extern bool g2_pickle_set_items(g2_pickle_machine *m, size_t first, size_t n);

/* The storage that the tuple on top describes; what the "call" on top makes. */
extern bool g2_pickle_load_storage(g2_pickle_machine *m);
extern bool g2_pickle_reduce(g2_pickle_machine *m);

/* The tensors of the dictionary that is left. */
extern bool g2_pickle_collect(g2_pickle_machine *m, g2_pickle_tensor **out, uint32_t *n);

#endif							/* G2_PICKLE_MACHINE_H */
