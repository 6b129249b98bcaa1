/*
 * pack_check.c: is a mapped file a pack that can be used?
 *
 * The file is ours, but it may be damaged, cut off, or from another release, and whoever can write
 * the pack directory must not be able to make the engine read outside of the mapping.  So every
 * size is checked against the file and against what the arch makes of it before anything is used.
 */
#include "config.h"
#include "pack.h"

static bool
check_fail(g2_error *err, const char *what)
{
	return g2_fail(err, G2_E_BAD_FILE, "damaged packed file: %s", what);
}

/* A version that is not ours is no damage. */
static bool
check_version(const g2_pack_header *h, g2_format format, g2_error *err)
{
	if (memcmp(h->magic, G2_PACK_MAGIC, sizeof h->magic) != 0)
		return check_fail(err, "it does not start with the magic bytes");
	if (h->byte_order != G2_PACK_BYTE_ORDER || h->version != G2_PACK_VERSION ||
		h->arithmetic != G2_ARITHMETIC_VERSION || h->layout != G2_LAYOUT_ID ||
		h->format != (uint32_t) format || h->format >= G2_FORMATS)
		return g2_fail(err, G2_E_VERSION, "the packed file is of another version");
	return true;
}

static bool
check_sizes(const g2_pack_header *h, size_t len, g2_error *err)
{
	uint64_t	files = h->n_files * sizeof(g2_pack_file);

	if (h->file_size != len)
		return check_fail(err, "its size is not the header's");
	if (h->n_files == 0 || h->n_files > G2_PACK_MAX_FILES)
		return check_fail(err, "number of source files");
	/* each below the file's size first, so that the sums cannot wrap */
	if (h->meta_size > len || h->tasks_size > len || h->tokenizer_size > len ||
		h->weights_size > len)
		return check_fail(err, "a section is larger than the file");
	if (h->meta_size != sizeof(g2_pack_meta) + files + h->tasks_size)
		return check_fail(err, "size of the description");
	if (h->tokenizer_offset != G2_ROUND_UP(G2_PACK_ALIGN + h->meta_size, G2_PACK_ALIGN) ||
		h->weights_offset != G2_ROUND_UP(h->tokenizer_offset + h->tokenizer_size,
										 G2_PACK_ALIGN) ||
		h->weights_offset + h->weights_size != len)
		return check_fail(err, "offsets of the sections");
	return true;
}

static bool
check_ends(const char *s, size_t size)
{
	return memchr(s, '\0', size) != NULL;
}

static bool
check_meta(const g2_pack_view *v, g2_error *err)
{
	const g2_pack_meta *m = v->meta;

	if (!g2_arch_check(&m->arch, "packed file", NULL))
		return check_fail(err, "the graph");
	if (!check_ends(m->architecture, sizeof m->architecture) ||
		!check_ends(m->tokenizer, sizeof m->tokenizer) ||
		!check_ends(m->folder, sizeof m->folder))
		return check_fail(err, "a text does not end");
	if ((m->end_token >= m->arch.n_vocab && m->end_token != G2_NO_TOKEN) ||
		(m->start_token >= m->arch.n_vocab && m->start_token != G2_NO_TOKEN))
		return check_fail(err, "a special token");
	if (m->n_warnings > G2_MAX_WARNINGS)
		return check_fail(err, "number of warnings");
	for (uint32_t i = 0; i < m->n_warnings; i++)
		if (!check_ends(m->warning[i], sizeof m->warning[i]))
			return check_fail(err, "a text does not end");
	for (uint32_t i = 0; i < v->header->n_files; i++)
		if (!check_ends(v->files[i].name, sizeof v->files[i].name))
			return check_fail(err, "a text does not end");
	if (v->tasks && v->tasks[v->header->tasks_size - 1] != '\0')
		return check_fail(err, "a text does not end");
	return true;
}

static bool
check_sums(const g2_pack_view *v, g2_error *err)
{
	uint8_t		sum[G2_HASH];
	g2_hash    *hash;
	bool		ok;

	if (!g2_pack_checksum(v->header, v->header->meta_size, sum, err))
		return false;
	if (memcmp(sum, v->header->checksum, sizeof sum) != 0)
		return check_fail(err, "checksum of the header");
	hash = g2_hash_new(err);
	if (!hash)
		return false;
	g2_hash_add(hash, (const char *) v->header + v->header->tokenizer_offset,
				(size_t) v->header->tokenizer_size);
	ok = g2_hash_end(hash, sum, err);
	g2_hash_free(hash);
	if (ok && memcmp(sum, v->header->tokenizer_hash, sizeof sum) != 0)
		return check_fail(err, "checksum of the tokenizer");
	return ok;
}

bool
g2_pack_check(const void *data, size_t len, g2_format format, bool without_sums,
			  g2_pack_view *v, g2_error *err)
{
	const char *p = data;

	memset(v, 0, sizeof *v);
	if (len < G2_PACK_ALIGN + sizeof(g2_pack_meta))
		return check_fail(err, "it is too short");
	v->header = data;
	if (!check_version(v->header, format, err) || !check_sizes(v->header, len, err))
		return false;
	v->meta = (const g2_pack_meta *) (p + G2_PACK_ALIGN);
	v->files = (const g2_pack_file *) (v->meta + 1);
	if (v->header->tasks_size > 0)
		v->tasks = (const char *) (v->files + v->header->n_files);
	if (v->header->tokenizer_size > 0)
		v->tokenizer = p + v->header->tokenizer_offset;
	v->weights = p + v->header->weights_offset;
	if (!without_sums && !check_sums(v, err))
		return false;
	if (!check_meta(v, err) || !g2_layout_make(&v->meta->arch, format, &v->layout, err))
		return false;
	if (v->layout.bytes != v->header->weights_size)
	{
		g2_layout_free(&v->layout);
		return check_fail(err, "size of the weights");
	}
	return true;
}
