/*
 * fuzz_weights.c: any bytes as the weights of a small model, packed and run.
 *
 * The input: a byte that chooses the format and the dtype of the file, and the bytes that the
 * tensors' data repeat.  NaN and infinity are refused; anything else that a file may hold, however
 * large or small, is packed, and every instruction set of the machine gives the same logits of it
 * (the same bits, or none a number) and samples the same token.
 */
#include "folder.h"

#include <math.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "config.h"
#include "kernels.h"
#include "layout.h"
#include "model.h"

#define ROWS 3
#define VOCAB 9
#define MAX_FILE (1u << 16)

static const char config[] = "{\"model_type\":\"gpt2\",\"n_layer\":1,\"n_head\":2,\"n_embd\":6,"
	"\"n_inner\":5,\"n_positions\":4,\"vocab_size\":9}";

static char packs[80];
static char folder[80];
static const char *const directories[] = {root};
static const g2_model_paths paths = {directories, 1, packs, 0};
static g2_layout layout;
static g2_backend *backends[G2_KERNEL_SETS];
static int	event_fd,
			n_backends;

/* ---- the place and the devices ---- */

static void
open_backends(void)
{
	const g2_kernels *tables[G2_KERNEL_SETS];
	g2_error	err;

	event_fd = eventfd(0, EFD_CLOEXEC);
	n_backends = g2_kernels_all(tables);
	for (int i = 0; i < n_backends; i++)
	{
		g2_backend_options options = {.isa = tables[i]->name, .threads = 1, .slots = 1};

		if (!g2_cpu_backend.open(&options, event_fd, &backends[i], &err))
			abort();
	}
}

static void
make_places(void)
{
	g2_config	c;
	g2_error	err;

	make_root();
	snprintf(packs, sizeof packs, "%s/.packs", root);
	snprintf(folder, sizeof folder, "%s/m", root);
	if (mkdir(folder, 0700) != 0 ||
		!g2_config_parse("config.json", config, sizeof config - 1, &c, &err) ||
		!g2_layout_make(&c.arch, G2_FORMAT_F32, &layout, &err))
		abort();
	put_file(folder, "config.json", "", 0, config, sizeof config - 1);
	open_backends();
}

/* ---- the weights ---- */

static void
put_weights(const uint8_t *data, size_t size, const char *dtype, size_t bytes)
{
	static char file[MAX_FILE];
	g2_buf		header = {0};
	size_t		end = 0;
	uint64_t	len;

	for (uint32_t i = 0; i < layout.n; i++)
	{
		const g2_layout_tensor *t = &layout.tensor[i];
		size_t		begin = end;

		end += (size_t) (t->rows * t->cols) * bytes;
		g2_buf_printf(&header, "%c\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? ',' : '{', t->name,
					  dtype);
		if (t->rank == 2)
			g2_buf_printf(&header, "%llu,", (unsigned long long) t->rows);
		g2_buf_printf(&header, "%llu],\"data_offsets\":[%zu,%zu]}", (unsigned long long) t->cols,
					  begin, end);
	}
	g2_buf_printf(&header, "}");
	len = header.len;
	if (header.failed || sizeof len + header.len + end > sizeof file)
		abort();
	memcpy(file, header.data, header.len);
	for (size_t i = 0; i < end; i++)
		file[header.len + i] = (char) data[i % size];
	put_file(folder, "model.safetensors", &len, sizeof len, file, header.len + end);
	g2_buf_free(&header);
}

/* ---- a text through the model ---- */

typedef struct outcome
{
	float		logits[VOCAB];
	uint32_t	token;
	double		logprob;
} outcome;

static void
run(g2_backend *backend, const g2_weights *weights, outcome *out)
{
	static const uint32_t tokens[ROWS] = {1, 7, 0},
				positions[ROWS] = {0, 1, 2},
				blocks[1] = {0};
	const g2_backend_api *api = &g2_cpu_backend;
	g2_backend_model *model;
	const g2_plan_sequence sequence = {.n_rows = ROWS, .blocks = blocks};
	const g2_output output = {
		.row = ROWS - 1, .want = G2_WANT_TOKEN | G2_WANT_LOGPROB | G2_WANT_LOGITS,
	};
	g2_slot_state state = {
		.sampling = {.temperature = 0.8f, .top_k = 7, .top_p = 0.95f, .min_p = 0.01f,
		.typical_p = 0.9f, .repetition_penalty = 1.3f, .presence_penalty = 0.5f, .seed = 5},
		.most_new = 1, .end_token = G2_TOKEN_NONE, .history = tokens, .n_history = ROWS,
	};
	g2_plan		plan = {
		.n_steps = 1, .n_rows = ROWS, .n_sequences = 1, .n_outputs = 1, .token = tokens,
		.position = positions, .sequences = &sequence, .outputs = &output,
	};
	g2_result	result = {.token = &out->token, .logprob = &out->logprob, .logits = out->logits};
	bool		failed = false;
	g2_error	err;

	if (!api->model_load(backend, weights, &model, &err) || !api->kv_reserve(model, 1, &err))
		abort();
	state.model = plan.model = model;
	if (!api->slot_set(backend, 0, &state, &err) ||
		!api->step_submit(backend, &plan, &result, &err))
		abort();
	while (!api->step_result(backend, &failed, &err))
		(void) poll(&(struct pollfd) {.fd = event_fd, .events = POLLIN}, 1, 1000);
	(void) !read(event_fd, &(uint64_t) {0}, sizeof(uint64_t));
	if (failed || out->token >= VOCAB)
		abort();
	api->model_unload(backend, model);
}

static bool
same_number(double a, double b)
{
	return isnan(a) ? isnan(b) : memcmp(&a, &b, sizeof a) == 0;
}

static void
run_on_all(const g2_pack *pack)
{
	outcome		first,
				other;

	run(backends[0], &pack->weights, &first);
	for (int i = 1; i < n_backends; i++)
	{
		run(backends[i], &pack->weights, &other);
		/* each family of these has bits of its own */
		if (pack->weights.format == G2_FORMAT_BF16)
			continue;
		for (int t = 0; t < VOCAB; t++)
			if (!same_number((double) first.logits[t], (double) other.logits[t]))
				abort();
		if (first.token != other.token || !same_number(first.logprob, other.logprob))
			abort();
	}
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const dtypes[] = {"F32", "F16", "BF16", "F32"};
	g2_pack    *pack;
	g2_error	err = {0};

	if (size < 2)
		return 0;
	if (!root[0])
		make_places();
	put_weights(data + 1, size - 1, dtypes[data[0] / 4 % 4], data[0] / 4 % 4 % 3 == 0 ? 4 : 2);
	if (!g2_pack_open(&paths, "m", (g2_format) (data[0] % G2_FORMATS), NULL, NULL, &pack, &err))
	{
		expect_told(&err);
		return 0;
	}
	run_on_all(pack);
	g2_pack_close(pack);
	return 0;
}
