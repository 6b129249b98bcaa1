/*
 * fuzz_adapter.c: any bytes as an adapter's folder beside a small base that is there.
 *
 * The input: a byte that chooses the base's format and how the rest is meant; adapter_config.json, a
 * byte 0xFF (which no JSON holds), gpt2.json (none where it is empty), 0xFF,
 * adapter_model.safetensors: the file as it is, or the JSON of its header, to which length and data
 * are made, so that more is accepted.
 *
 * What is accepted is used, and g2_model_check finds nothing wrong with it; what is refused says
 * why.
 */
#include "folder.h"

#include "adapter.h"
#include "own_json.h"
#include "synth.h"

#define MAX_DATA (1u << 20)

static const g2_synth_options base_model = {
	.n_layer = 2, .n_embd = 12, .n_head = 2, .n_ff = 20, .n_ctx = 8, .n_vocab = 40, .sigma = 0.5,
	.seed = 3,
};

static char packs[80];
static char folder[80];
static const char *const directories[] = {root};
static const g2_model_paths paths = {directories, 1, packs, 0};

/* ---- the place: ROOT/base, ROOT/.packs, ROOT/a ---- */

static void
make_places(void)
{
	char		base[80];
	g2_error	err = {0};

	make_root();
	snprintf(packs, sizeof packs, "%s/.packs", root);
	snprintf(folder, sizeof folder, "%s/a", root);
	snprintf(base, sizeof base, "%s/base", root);
	if (!g2_synth(base, &base_model, &err) || mkdir(folder, 0700) != 0)
		abort();
}

/* ---- the weights ---- */

/* The end of the data that the header speaks of, as far as it is reasonable. */
static size_t
data_end(const char *header, size_t len)
{
	static const char key[] = "\"data_offsets\":[";
	const char *end = header + len;
	size_t		most = 0;

	for (const char *p = header; (p = memmem(p, (size_t) (end - p), key, sizeof key - 1));)
	{
		size_t		n = 0;

		for (p += sizeof key - 1; p < end && *p != ','; p++)
			;
		for (p += p < end; p < end && *p >= '0' && *p <= '9' && n <= MAX_DATA; p++)
			n = n * 10 + (size_t) (*p - '0');
		if (n <= MAX_DATA)
			most = G2_MAX(most, n);
	}
	return most;
}

static void
put_weights(const char *data, size_t len, bool header_only, uint8_t fill)
{
	uint64_t	n = len;
	size_t		end = header_only ? data_end(data, len) : 0;
	char	   *all;

	if (!header_only)
	{
		put_file(folder, G2_ADAPTER_WEIGHTS, "", 0, data, len);
		return;
	}
	all = malloc(len + end + 1);
	if (!all)
		abort();
	memcpy(all, data, len);
	/* of any dtype: small numbers, large ones, those that are none */
	memset(all + len, fill, end);
	put_file(folder, G2_ADAPTER_WEIGHTS, &n, sizeof n, all, len + end);
	free(all);
}

/* ---- what comes of it ---- */

static void
use_low_rank(const g2_low_rank *l, uint32_t rank)
{
	float		x[G2_ADAPTER_MAX_RANK];

	if (!l->down)
		return;
	for (size_t i = 0; i < (size_t) rank * l->k; i++)
		if (!(l->down[i] - l->down[i] == 0))
			abort();
	for (uint32_t c = 0; c < l->up.n; c++)
	{
		g2_matrix_column(&l->up, c, x);
		for (uint32_t i = 0; i < rank; i++)
			if (!(x[i] - x[i] == 0))
				abort();
	}
}

static void
use(const g2_pack *pack)
{
	const g2_weights *w = &pack->weights;

	if (w->adapter_rank < 1 || w->adapter_rank > G2_ADAPTER_MAX_RANK ||
		strcmp(g2_pack_base(pack), "base") != 0 || strlen(pack->content_hash) != 64)
		abort();
	for (uint32_t i = 0; i < w->arch.n_layer; i++)
	{
		const g2_layer_adapter *a = &w->adapter[i];

		use_low_rank(&a->qkv, w->adapter_rank);
		use_low_rank(&a->attn_out, w->adapter_rank);
		use_low_rank(&a->ff_up, w->adapter_rank);
		use_low_rank(&a->ff_down, w->adapter_rank);
	}
}

static void
on_item(void *arg, const char *item, g2_check_result result, const char *detail, const char *hint)
{
	bool	   *wrong = arg;

	if (g2_utf8_valid_prefix(detail, strlen(detail)) != strlen(detail) ||
		g2_utf8_valid_prefix(hint, strlen(hint)) != strlen(hint))
		abort();
	/* who may use a model is looked at apart from loading it */
	if (result == G2_CHECK_FAILED && strcmp(item, "roles") != 0)
		*wrong = true;
}

static void
load(g2_format format)
{
	g2_pack    *pack;
	g2_error	err = {0};
	bool		wrong = false;

	g2_model_check(&paths, "a", folder, on_item, &wrong);
	if (!g2_pack_open(&paths, "a", format, NULL, NULL, &pack, &err))
	{
		expect_told(&err);
		return;
	}
	if (wrong)
		abort();
	use(pack);
	g2_pack_close(pack);
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	part		parts[3];

	if (size < 1)
		return 0;
	if (!root[0])
		make_places();
	split_input(data + 1, size - 1, parts, 3);
	put_file(folder, G2_ADAPTER_CONFIG, "", 0, parts[0].data, parts[0].len);
	put_or_remove(folder, G2_OWN_JSON, &parts[1]);
	put_weights(parts[2].data, parts[2].len, data[0] & 4, data[0] & 0xF8);
	load((g2_format) (data[0] % G2_FORMATS));
	return 0;
}
