/*
 * pack.h: the packed file; private to pack_*.c and their tests.
 *
 *     0              g2_pack_header, zeros up to 4096
 *     4096           g2_pack_meta, n_files g2_pack_file, gpt2.json's content with a NUL (tasks_size
 *                    bytes)
 *     tokenizer      the tokenizer's block (tokenizer.h), at the next multiple of 4096
 *     weights        the tensors of layout.h, at the next multiple of 4096, to the end of the file
 *
 * Everything is in the machine's byte order, which the header names.  The offsets follow from the
 * sizes and are checked against them; where a tensor stands follows from the arch.  A pack is
 * written once under another name and never changed, so a mapping of it cannot fault.
 */
#ifndef G2_PACK_H
#define G2_PACK_H

#include "layout.h"
#include "model.h"

#define G2_PACK_MAGIC "gpt2pack"
#define G2_PACK_BYTE_ORDER 0x01020304u
#define G2_PACK_VERSION 2			/* of this file */
#define G2_ARITHMETIC_VERSION 1		/* of the kernels' order of operations: "exact-1" */
#define G2_PACK_ALIGN 4096
#define G2_PACK_MAX_FILES 320
#define G2_PACK_SMALL (64u << 20)	/* below: needs twice its size free, no reserve */
#define G2_HASH 32					/* bytes of a SHA-256 */

typedef struct g2_pack_header
{
	char		magic[8];
	uint32_t	byte_order;
	uint32_t	version;
	uint32_t	arithmetic;
	uint32_t	layout;
	uint32_t	format;			/* g2_format */
	uint32_t	n_files;
	uint64_t	file_size;
	uint64_t	meta_size;		/* with files and tasks */
	uint64_t	tasks_size;		/* 0 = gpt2.json has no content */
	uint64_t	tokenizer_offset;
	uint64_t	tokenizer_size;	/* 0 = none */
	uint64_t	weights_offset;
	uint64_t	weights_size;
	uint64_t	weights_sum;	/* g2_pack_sum over the tensors */
	uint8_t		content_hash[G2_HASH];
	uint8_t		tokenizer_hash[G2_HASH];
	uint8_t		checksum[G2_HASH];	/* SHA-256 of the first 4096 bytes, this field zero, and meta */
} g2_pack_header;

/* What the source's files were when they were packed. */
typedef struct g2_pack_file
{
	char		name[256];
	g2_file_state state;
} g2_pack_file;

typedef struct g2_pack_meta
{
	_Alignas(8) g2_arch arch;	/* 8: the list of files stands behind this struct */
	char		architecture[64];
	char		tokenizer[32];
	uint32_t	end_token;
	uint32_t	start_token;
	uint32_t	n_warnings;
	char		warning[G2_MAX_WARNINGS][256];
	char		folder[4096];	/* real path of the source */
} g2_pack_meta;

/* A mapped pack whose header, meta and sizes have been checked. */
typedef struct g2_pack_view
{
	const g2_pack_header *header;
	const g2_pack_meta *meta;
	const g2_pack_file *files;
	const char *tasks;			/* NULL: gpt2.json has no content */
	const void *tokenizer;		/* NULL without one */
	const char *weights;
	g2_layout	layout;			/* g2_layout_free */
} g2_pack_view;

/*
 * Checks data[0..len) completely but for the weights' values and the tokenizer's block (its hash
 * only).  22P03 when it is no pack of ours, 55000 when it is one of another version or format.
 * without_sums leaves the checksums out: for fuzzing what is behind them.
 */
extern bool g2_pack_check(const void *data, size_t len, g2_format format, bool without_sums,
						  g2_pack_view *view, g2_error *err);

/* ---- pack_files.c: names, places and states of files */

typedef struct g2_pack_place
{
	char	   *folder;			/* real path of the model's folder */
	char	   *path;			/* of the packed file */
} g2_pack_place;

extern bool g2_pack_place_make(const g2_model_paths *paths, const char *name,
							   const char *folder, g2_format format, g2_pack_place *place,
							   g2_error *err);
extern void g2_pack_place_free(g2_pack_place *place);

/* A set of source files, sorted by name. */
typedef struct g2_pack_files
{
	g2_pack_file file[G2_PACK_MAX_FILES];
	uint32_t	n;
} g2_pack_files;

/* The files with fixed names that are there now, and the shards (may be NULL). */
extern bool g2_pack_files_read(const char *folder, const char *const *shards, uint32_t n_shards,
							   g2_pack_files *files, g2_error *err);
extern bool g2_pack_files_equal(const g2_pack_file *a, uint32_t n_a, const g2_pack_files *b);

/* *stale: the folder's files are not what they were when the pack was made; of gpt2.json the
 * content counts. */
extern bool g2_pack_is_stale(const g2_pack_view *view, const char *folder, bool *stale,
							 g2_error *err);

/* g2_fail_errno of the directory for packs or of what is to be made in it, with a hint. */
extern bool g2_pack_fail_place(g2_error *err, int errnum, const char *verb, const char *path);

/* Opens and locks a temporary file beside path; *temp is its name.  -1 on failure. */
extern int	g2_pack_temp(const char *path, char **temp, g2_error *err);

/* Removes temporaries of dead processes, and packs of this model whose source has changed or
 * vanished, but for the pack at `keep`.  Failures are of no importance. */
extern void g2_pack_sweep(const g2_model_paths *paths, const char *name, const char *keep);

/* True for <name>-<format>-<16 hex>.pack, a pack of any model. */
extern bool g2_pack_is_name(const char *file, size_t *name_len);

/* ---- pack_hash.c */

typedef struct g2_hash g2_hash;

extern g2_hash *g2_hash_new(g2_error *err);
extern bool g2_hash_add(g2_hash *hash, const void *data, size_t n);	/* false: g2_hash_end fails */

/* Name and size of a file, or these and its bytes, as a model's content hash has them. */
extern void g2_hash_name(g2_hash *hash, const char *name, uint64_t size);
extern bool g2_hash_file(g2_hash *hash, const char *folder, const char *name, g2_error *err);
extern bool g2_hash_end(g2_hash *hash, uint8_t out[G2_HASH], g2_error *err);
extern void g2_hash_free(g2_hash *hash);
extern void g2_hash_hex(const uint8_t *hash, size_t n, char *out);	/* 2 n characters, NUL */

/* The header's checksum; the first 4096 bytes and meta, which follows them. */
extern bool g2_pack_checksum(const void *data, uint64_t meta_size, uint8_t out[G2_HASH],
							 g2_error *err);

/*
 * A sum over 32-bit words that knows their positions: parts of the weights may be added in any
 * order, and any word changed, moved or exchanged changes it.  Against damage, not malice.
 */
extern uint64_t g2_pack_sum(const void *words, size_t n, uint64_t first);

/* ---- pack_open.c */

/* Maps a file that nobody else can write, so that nobody cuts it short under the mapping.  The
 * descriptor, with a shared lock (pack_trim.c), or -1; 58P01 when there is none. */
extern int	g2_pack_map(const char *path, void **map, size_t *size, g2_error *err);

/* ---- pack_write.c */

extern bool g2_pack_write(const g2_model_paths *paths, const g2_pack_place *place,
						  g2_format format, g2_progress *progress, const atomic_bool *cancel,
						  g2_error *err);

/* Bytes that packing would write, without the tokenizer. */
extern bool g2_pack_estimate(const char *folder, g2_format format, uint64_t *bytes,
							 g2_error *err);

#endif							/* G2_PACK_H */
