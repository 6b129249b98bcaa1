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
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapter.h"
#include "own_json.h"
#include "synth.h"

#define MAX_DATA (1u << 20)

static const g2_synth_options base_model = {
	.n_layer = 2, .n_embd = 12, .n_head = 2, .n_ff = 20, .n_ctx = 8, .n_vocab = 40, .sigma = 0.5,
	.seed = 3,
};

static char root[64];
static char packs[80];
static char folder[80];
static const char *const directories[] = {root};
static const g2_model_paths paths = {directories, 1, packs, 0};

/* ---- the place: ROOT/base, ROOT/.packs, ROOT/a ---- */

static int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void) st;
	(void) kind;
	(void) ftw;
	return remove(path);
}

static void
remove_root(void)
{
	(void) nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void
make_root(void)
{
	char		base[80];
	g2_error	err = {0};

	snprintf(root, sizeof root, "%s/gpt2-fuzz-XXXXXX",
			 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(root))
		abort();
	atexit(remove_root);
	snprintf(packs, sizeof packs, "%s/.packs", root);
	snprintf(folder, sizeof folder, "%s/a", root);
	snprintf(base, sizeof base, "%s/base", root);
	if (!g2_synth(base, &base_model, &err) || mkdir(folder, 0700) != 0)
		abort();
}

static void
remove_own_json(void)
{
	char		path[160];

	snprintf(path, sizeof path, "%s/" G2_OWN_JSON, folder);
	(void) unlink(path);
}

static void
put_file(const char *name, const void *head, size_t head_len, const void *data, size_t len)
{
	char		path[160];
	int			fd;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, head, head_len) != (ssize_t) head_len ||
		write(fd, data, len) != (ssize_t) len || close(fd) != 0)
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
		put_file(G2_ADAPTER_WEIGHTS, "", 0, data, len);
		return;
	}
	all = malloc(len + end + 1);
	if (!all)
		abort();
	memcpy(all, data, len);
	/* of any dtype: small numbers, large ones, those that are none */
	memset(all + len, fill, end);
	put_file(G2_ADAPTER_WEIGHTS, &n, sizeof n, all, len + end);
	free(all);
}

/* ---- what comes of it ---- */

static void
expect_told(const g2_error *err)
{
	if (err->code == G2_OK || err->code == G2_E_INTERNAL || !err->message[0] ||
		g2_utf8_valid_prefix(err->message, strlen(err->message)) != strlen(err->message))
		abort();
}

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
	const char *part[3] = {"", "", ""};
	size_t		len[3] = {0};
	const char *at = (const char *) data + 1,
			   *end = (const char *) data + size;

	if (size < 1)
		return 0;
	if (!root[0])
		make_root();
	for (int i = 0; i < 3 && at <= end; i++)
	{
		const char *next = i < 2 && at < end ? memchr(at, 0xFF, (size_t) (end - at)) : NULL;

		part[i] = at;
		len[i] = (size_t) ((next ? next : end) - at);
		at = next ? next + 1 : end + 1;
	}
	put_file(G2_ADAPTER_CONFIG, "", 0, part[0], len[0]);
	if (len[1] > 0)
		put_file(G2_OWN_JSON, "", 0, part[1], len[1]);
	else
		remove_own_json();
	put_weights(part[2], len[2], data[0] & 4, data[0] & 0xF8);
	load((g2_format) (data[0] % G2_FORMATS));
	return 0;
}
