/*
 * adapter.h: LoRA adapters (Hu et al. 2021) that stay beside the model they were made from, their
 * base: a model whose folder holds, as PEFT lays them out,
 *
 *     adapter_config.json        base_model_name_or_path: the base, by the last part of its path;
 *                                r, lora_alpha, use_rslora; all else plain LoRA
 *     adapter_model.safetensors  pairs of lora_A [r][k] and lora_B [n][r] for matrices of layers
 *     gpt2.json                  as any model's; base_hash: content hash that the base must have
 *
 * and no weights of its own.  Its pack is the base's, mapped once more, so that base and adapters
 * have the same memory; graph, tokenizer and special tokens are the base's.  Only the adapter's
 * two small matrices for each large one are its own, in f32, in memory.
 *
 * Files: adapter.c (what the folder says), adapter_weights.c (tensors).  Private to
 * model.h's files; belongs to the g2_pack, read-only once it is open.
 */
#ifndef G2_ADAPTER_H
#define G2_ADAPTER_H

#include "model.h"

#define G2_ADAPTER_CONFIG "adapter_config.json"
#define G2_ADAPTER_WEIGHTS "adapter_model.safetensors"
#define G2_ADAPTER_MAX_RANK 256
#define G2_ADAPTER_MODULES 4	/* matrices of a layer that can have adapters */

/* Their names, as in a model's tensors. */
extern const char *const g2_adapter_modules[G2_ADAPTER_MODULES];

/* Inputs k and outputs n of a layer's matrix. */
extern void g2_adapter_shape(const g2_arch *arch, uint32_t module, uint32_t *k, uint32_t *n);

typedef struct g2_adapter_config
{
	char		base[G2_MAX_NAME + 1];	/* name of the model */
	char		base_hash[65];	/* its content, hex; "" = any */
	uint32_t	rank;
	float		scale;			/* of what it adds */
	g2_file_state file;			/* adapter_config.json, before it was read */
} g2_adapter_config;

typedef struct g2_adapter
{
	g2_adapter_config config;
	char	   *folder;
	g2_file_state weights_file;	/* before it was read */
	g2_file_state base_own_json;
	g2_layer_adapter *layers;	/* [n_layer], into memory */
	float	   *memory;
	uint64_t	bytes;			/* of it */
	uint64_t	parameters;
} g2_adapter;

/* The folder is an adapter's: an adapter_config.json and no weights of a whole model. */
extern bool g2_adapter_is(const char *folder);

/* adapter_config.json, and base_hash.  22032 for what is malformed, 0A000 for what is not plain
 * LoRA. */
extern bool g2_adapter_config_read(const char *folder, g2_adapter_config *config, g2_error *err);

/* The base's folder, g2_free'd by the caller; 55000 when it is not there, 0A000 when it is an
 * adapter too.  name: the adapter's. */
extern bool g2_adapter_find_base(const g2_model_paths *paths, const char *name,
								 const g2_adapter_config *config, char **base, g2_error *err);

/* The base has the content that the adapter was made for; 55000. */
extern bool g2_adapter_check_base(const char *name, const g2_adapter_config *config,
								  const char *content_hash, g2_error *err);

/* The content of an adapter's gpt2.json for tasks (own_json.h), without base_hash; *tasks is
 * g2_free'd by the caller.  22032 also for special tokens, which are the base's. */
extern bool g2_adapter_own(const char *folder, char **tasks, g2_error *err);

/*
 * Makes the pack that of the adapter in the folder; the pack is the base's, just opened.  22P03
 * for tensors that are no adapter of this graph, 55000 for another base than base_hash says.
 */
extern bool g2_adapter_attach(g2_pack *pack, const char *name, const char *folder,
							  const g2_adapter_config *config, const char *base_folder,
							  const g2_file_state *base_own_json, const atomic_bool *cancel,
							  g2_error *err);
extern void g2_adapter_free(g2_adapter *adapter);	/* NULL is allowed */

/* The adapter's files are others than those it was made from; false also where they are gone. */
extern bool g2_adapter_changed(const g2_adapter *adapter, const g2_file_state *own_json);

/* ---- adapter_weights.c */

/* Fills adapter->layers for the graph of the base's weights.  base_folder: the source of the
 * pack, whose norms say by which powers of two channels were evened out (pack_equalize.h). */
extern bool g2_adapter_read_weights(g2_adapter *adapter, const g2_weights *base,
									const char *base_folder, const atomic_bool *cancel,
									g2_error *err);

/* Only the header: names and shapes against the graph; *pairs: how many matrices it adapts. */
extern bool g2_adapter_check_weights(const char *folder, const g2_adapter_config *config,
									 const g2_arch *arch, uint32_t *pairs, g2_error *err);

#endif							/* G2_ADAPTER_H */
