/*
 * model.h: models on disk.  A folder as Hugging Face lays it out is checked, converted once into
 * a packed file, and the packed file is mapped.
 *
 * A folder with an adapter (adapter.h) has no weights of its own: its pack is its base's, with the
 * adapter's small matrices beside it.
 *
 * Files: folder.c (names, search, errors about a folder), describe.c, config.c (config.json ->
 * g2_arch), own_json.c, safetensors.c, weights_source.c, layout.c, pack_*.c, adapter*.c.  Everything here may
 * take long and runs on a helper thread of the engine; nothing is shared between threads.
 */
#ifndef G2_MODEL_H
#define G2_MODEL_H

#include <stdatomic.h>

#include "file.h"
#include "tokenizer.h"
#include "weights.h"

#define G2_MAX_NAME 255			/* bytes of a model's name: a directory entry */
#define G2_MAX_WARNINGS 8

/* Where models and packs live; strings belong to the caller. */
typedef struct g2_model_paths
{
	const char *const *directories;	/* searched in order */
	uint32_t	n_directories;
	const char *pack_directory;	/* made when missing */
	uint64_t	keep_free;		/* packing refuses (53100) to leave less than this, or a tenth, on
								 * the file system, except for packs below 64 MB (twice their size) */
} g2_model_paths;

/* What a folder says about itself, without weights. */
typedef struct g2_description
{
	g2_arch		arch;
	char		architecture[64];	/* "gpt2" */
	char		tokenizer[32];	/* "gpt2-bpe", "none" */
	uint64_t	parameters;		/* from the arch */
	uint32_t	end_token;		/* G2_NO_TOKEN = none */
	uint32_t	start_token;
	char	   *tasks;			/* content of gpt2.json (own_json.h), checked; NULL: none */
	uint32_t	n_warnings;
	char		warning[G2_MAX_WARNINGS][256];
} g2_description;

/* 42602 for a name that is empty, too long, starts with a dot, or holds a slash, "..", NUL or a
 * control character. */
extern bool g2_model_name_check(const char *name, size_t len, g2_error *err);

/* The folder of that name in the first directory that has it; *path is g2_free'd by the caller.
 * 42704 with the directories searched and (hint) the names there; an all-digit name has the hint
 * to write n => 5; a name that is a file or a link: 42501. */
extern bool g2_model_find(const g2_model_paths *paths, const char *name, char **path,
						  g2_error *err);

/* Calls fn for each folder that holds a config.json, first directory first, a name once. */
typedef void (*g2_model_list_fn) (void *arg, const char *name, const char *path);
extern bool g2_model_list(const g2_model_paths *paths, g2_model_list_fn fn, void *arg,
						  g2_error *err);

/* Reads config.json, the tokenizer's files, generation_config.json, tokenizer_config.json,
 * special_tokens_map.json and gpt2.json.  The tokenizer's block is appended to tokenizer_blob
 * (nothing when the folder has no tokenizer files).  Rules for end and start token: sql-api. */
extern bool g2_model_describe(const char *path, g2_description *description,
							  g2_buf *tokenizer_blob, g2_error *err);
extern void g2_description_free(g2_description *description);

typedef enum g2_check_result
{
	G2_CHECK_FAILED, G2_CHECK_OK, G2_CHECK_SKIPPED	/* something before it has failed */
} g2_check_result;

/* One thing about a folder; detail and hint may be empty. */
typedef void (*g2_check_fn) (void *arg, const char *item, g2_check_result result,
							 const char *detail, const char *hint);

/* Looks at all that loading the model would need, one thing after the other: config.json, weights,
 * tokenizer, gpt2.json, special tokens, roles; of an adapter adapter_config.json, base, weights,
 * gpt2.json, roles.  Reads headers only. */
extern void g2_model_check(const g2_model_paths *paths, const char *name, const char *path,
						   g2_check_fn tell, void *arg);

/* SHA-256 over the folder's files, hex, as a pack of it has (g2_pack): reads all of them. */
extern bool g2_model_content_hash(const char *path, char hex[65], g2_error *err);

/* Progress of packing in bytes read of bytes in all; may be NULL. */
typedef struct g2_progress
{
	_Atomic uint64_t done;
	_Atomic uint64_t total;
} g2_progress;

/* An opened pack. */
typedef struct g2_pack
{
	g2_weights	weights;
	g2_description description;
	g2_tokenizer *tokenizer;	/* NULL: the model has none */
	char		content_hash[65];	/* SHA-256 over the source's files, hex */
	char		vocabulary_hash[65];	/* that of the model whose tokenizer and special tokens it has: an
									 * adapter's base */
	uint64_t	bytes;			/* size of the packed file */
	char	   *path;			/* of the packed file; of an adapter's its base's */
	uint64_t	device;			/* of that file, with the inode: packs opened twice */
	uint64_t	inode;
	struct g2_adapter *adapter; /* NULL: none */
	int			fd;				/* locked (shared) while it is open: see pack_trim.c */
	void	   *map;
	size_t		map_size;
} g2_pack;

/*
 * Opens the model's pack in the given format; packs the folder first when there is none, when its
 * format version, arithmetic version or layout is unknown, or when a source file's size, ctime or
 * inode has changed (of gpt2.json: and its content has, own_json.h).  The pack is written to a
 * temporary name, fsynced, renamed; packs of the same model whose source has changed are removed.
 * *cancel ends packing soon with 57014.
 * A pack with a damaged header is packed again, never trusted (header checksum, sizes, offsets).
 */
extern bool g2_pack_open(const g2_model_paths *paths, const char *name, g2_format format,
						 g2_progress *progress, const atomic_bool *cancel, g2_pack **out,
						 g2_error *err);
extern void g2_pack_close(g2_pack *pack);

/* The name of an adapter's base; "" for any other model. */
extern const char *g2_pack_base(const g2_pack *pack);

/* Bytes that the model has for itself: the packed file's, or an adapter's small matrices'. */
extern uint64_t g2_pack_own_bytes(const g2_pack *pack);

/* Both have the same packed file in memory. */
extern bool g2_pack_shares(const g2_pack *a, const g2_pack *b);

typedef struct g2_pack_trimmed
{
	uint32_t	n;				/* packs */
	uint64_t	bytes;
} g2_pack_trimmed;

/* Removes packs of the directory that nobody has open until all have no more than `limit` bytes
 * together, as far as that is enough; those first that were not used for the longest time. */
extern g2_pack_trimmed g2_pack_trim(const char *directory, uint64_t limit);

/* Whether the files that the pack was made from are others now, by the rule above, or gpt2.json is
 * not what it was: it says more than the pack holds.  A folder that is gone, cannot be read or holds
 * no model any more has not changed: there is nothing to load instead.  Some 15 stat calls and no
 * other work, so that the engine's thread may ask. */
extern bool g2_pack_changed(const g2_pack *pack, const g2_file_state *own_json);

/* Compares the weights with the checksum that packing left; reads all of them.  22P03. */
extern bool g2_pack_verify(const g2_pack *pack, g2_error *err);

/* True when opening would have to pack first; *bytes = what packing will write. */
extern bool g2_pack_missing(const g2_model_paths *paths, const char *name, g2_format format,
							uint64_t *bytes);

/* The name of a format ("f32"), and back; 22023 for an unknown name. */
extern const char *g2_format_name(g2_format format);
extern bool g2_format_from_name(const char *name, g2_format *format, g2_error *err);

#endif							/* G2_MODEL_H */
