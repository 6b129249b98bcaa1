/*
 * cli.c: the commands generate, pack, info, synth and serve of gpt2_engine, for use by hand.
 */
#include "cli.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "model.h"
#include "server.h"
#include "synth.h"

/* ---- options ---- */

bool
g2_cli_int(const char *option, const char *value, int64_t lo, int64_t hi, int64_t *out,
		   g2_error *err)
{
	char	   *end;

	errno = 0;
	*out = strtoll(value, &end, 10);
	if (errno == 0 && *value && *end == '\0' && *out >= lo && *out <= hi)
		return true;
	return g2_fail(err, G2_E_PARAM, "%s must be an integer between %lld and %lld", option,
				   (long long) lo, (long long) hi);
}

bool
g2_cli_double(const char *option, const char *value, double *out, g2_error *err)
{
	char	   *end;

	*out = strtod(value, &end);
	if (*value && *end == '\0')
		return true;
	return g2_fail(err, G2_E_PARAM, "%s must be a number", option);
}

bool
g2_cli_option(g2_cli *cli, const char *option, const char *value, g2_error *err)
{
	g2_settings *s = &cli->settings;
	int64_t		number;

	if (strcmp(option, "--model") == 0)
		cli->model = value;
	else if (strcmp(option, "--models") == 0)
	{
		if (s->n_directories == G2_MAX_DIRECTORIES)
			return g2_fail(err, G2_E_PARAM, "--models may be given %d times", G2_MAX_DIRECTORIES);
		s->directories[s->n_directories++] = g2_span_of(value);
	}
	else if (strcmp(option, "--packs") == 0)
		s->pack_directory = g2_span_of(value);
	else if (strcmp(option, "--format") == 0)
	{
		s->weight_format = g2_span_of(value);
		if (!g2_format_from_name(value, &cli->format, err))
			return false;
	}
	else if (strcmp(option, "--cpu") == 0)
		s->cpu = g2_span_of(value);
	else if (strcmp(option, "--device") == 0)
		s->device = g2_span_of(value);
	else if (strcmp(option, "--threads") == 0)
	{
		if (!g2_cli_int(option, value, 1, 1024, &number, err))
			return false;
		s->threads = (uint32_t) number;
	}
	else if (strcmp(option, "--kv-cache-mb") == 0)
	{
		if (!g2_cli_int(option, value, 1, 1 << 20, &number, err))
			return false;
		s->kv_cache_size = (uint64_t) number << 20;
	}
	else
		return g2_fail(err, G2_E_PARAM, "unknown option %s", option);
	return true;
}

void
g2_cli_init(g2_cli *cli)
{
	memset(cli, 0, sizeof *cli);
	cli->format = G2_FORMAT_Q8;
	cli->settings.weight_format = g2_span_of(g2_format_name(cli->format));
}

bool
g2_cli_finish(g2_cli *cli, g2_error *err)
{
	static char packs[64];
	char	   *slash;

	if (cli->model && strchr(cli->model, '/'))
	{
		if (strlen(cli->model) >= sizeof cli->folder_of_model)
			return g2_fail(err, G2_E_NAME, "the model's path is too long");
		strcpy(cli->folder_of_model, cli->model);
		while ((slash = strrchr(cli->folder_of_model, '/')) && slash[1] == '\0')
			*slash = '\0';
		cli->model = slash ? slash + 1 : cli->folder_of_model;
		if (slash)
			*slash = '\0';
		cli->settings.directories[0] =
			g2_span_of(slash && !cli->folder_of_model[0] ? "/" : cli->folder_of_model);
		cli->settings.n_directories = 1;
	}
	if (cli->settings.n_directories == 0)
		cli->settings.directories[cli->settings.n_directories++] = g2_span_of("gpt2_models");
	if (cli->settings.pack_directory.len == 0)
	{
		snprintf(packs, sizeof packs, "/tmp/gpt2_packs_%u", (unsigned) geteuid());
		cli->settings.pack_directory = g2_span_of(packs);
	}
	return true;
}

g2_model_paths
g2_cli_paths(g2_cli *cli)
{
	const g2_settings *s = &cli->settings;

	/* spans of this program's own strings: they end in NUL */
	for (uint32_t i = 0; i < s->n_directories; i++)
		cli->directories[i] = s->directories[i].data;
	return (g2_model_paths) {cli->directories, s->n_directories, s->pack_directory.data, 0};
}

/* ---- one request ---- */

void *
g2_cli_grow(void *data, size_t bytes)
{
	return g2_realloc(data, bytes);
}

void
g2_cli_log(void *arg, g2_level level, const char *message)
{
	(void) arg;
	(void) level;
	fprintf(stderr, "%s\n", message);
}

typedef struct call
{
	bool		answered;
	g2_message	type;
	g2_buf	   *reply;
} call;

static void
on_answer(void *owner, g2_message type, uint64_t id, const void *payload, size_t len)
{
	call	   *c = owner;

	(void) id;
	if (type == G2_MSG_NOTICE)
		return;
	c->answered = true;
	c->type = type;
	g2_buf_append(c->reply, payload, len);
}

void
g2_cli_wait(g2_engine *engine)
{
	struct pollfd ready = {.fd = g2_engine_fd(engine), .events = POLLIN};

	poll(&ready, 1, -1);
}

bool
g2_cli_call(g2_engine *engine, g2_message type, const g2_writer *payload, g2_buf *reply,
			g2_error *err)
{
	call		c = {.reply = reply};
	size_t		begin = reply->len;
	g2_error_message message;
	g2_client  *client;

	if (!g2_engine_attach(engine, &c, on_answer, &(g2_hello) {0}, &client, err))
		return false;
	g2_engine_submit(client, 1, type, payload->data, payload->len);
	for (g2_engine_run(engine); !c.answered; g2_engine_run(engine))
		g2_cli_wait(engine);
	g2_engine_detach(client);
	if (reply->failed)
		return g2_fail_memory(err, reply->len);
	if (c.type != G2_MSG_ERROR)
		return true;
	if (!g2_error_decode(reply->data + begin, reply->len - begin, &message))
		return g2_fail(err, G2_E_INTERNAL, "malformed error answer");
	g2_fail(err, G2_E_INTERNAL, "%.*s", (int) message.message.len, message.message.data);
	for (int code = 0; code < G2_N_CODES; code++)
		if (strcmp(g2_sqlstate((g2_code) code), message.sqlstate) == 0)
			err->code = (g2_code) code;
	g2_fail_detail(err, "%.*s", (int) message.detail.len, message.detail.data);
	return g2_fail_hint(err, "%.*s", (int) message.hint.len, message.hint.data);
}

static bool
with_engine(const g2_cli *cli, g2_engine **engine, g2_error *err)
{
	if (!cli->model)
		return g2_fail(err, G2_E_PARAM, "--model is missing");
	return g2_engine_open(&cli->settings, g2_cli_log, NULL, engine, err);
}

/* ---- generate ---- */

#define MAX_IDS 1024			/* of a prompt given as --ids */

/* "1,2,3": a prompt of token ids. */
static bool
generate_ids(g2_generate *m, const char *value, g2_error *err)
{
	static uint32_t ids[MAX_IDS];
	size_t		n = 0;

	for (const char *p = value; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
	{
		char	   *end;
		unsigned long id = strtoul(p, &end, 10);

		if (n == MAX_IDS || end == p || (*end != ',' && *end != '\0') || id >= G2_NO_TOKEN)
			return g2_fail(err, G2_E_PARAM, "--ids needs up to %d numbers, separated by commas",
						   MAX_IDS);
		ids[n++] = (uint32_t) id;
	}
	m->prompt = (g2_span) {(const char *) ids, (uint32_t) (n * sizeof *ids)};
	m->flags |= G2_GEN_PROMPT_IDS;
	return true;
}

static bool
generate_option(g2_cli *cli, g2_generate *m, const char *option, const char *value, g2_error *err)
{
	int64_t		number;
	static const struct
	{
		const char *name;
		size_t		offset;
	}			doubles[] = {
		{"--temperature", offsetof(g2_generate, temperature)},
		{"--top-p", offsetof(g2_generate, top_p)},
		{"--min-p", offsetof(g2_generate, min_p)},
		{"--repetition-penalty", offsetof(g2_generate, repetition_penalty)},
	};
	static const struct
	{
		const char *name;
		size_t		offset;
	}			counts[] = {
		{"--max-len", offsetof(g2_generate, max_new)},
		{"--n", offsetof(g2_generate, n)},
		{"--top-k", offsetof(g2_generate, top_k)},
	};

	for (size_t i = 0; i < G2_LENGTH(doubles); i++)
		if (strcmp(option, doubles[i].name) == 0)
			return g2_cli_double(option, value, (double *) ((char *) m + doubles[i].offset), err);
	for (size_t i = 0; i < G2_LENGTH(counts); i++)
		if (strcmp(option, counts[i].name) == 0)
		{
			if (!g2_cli_int(option, value, 0, UINT32_MAX, &number, err))
				return false;
			*(uint32_t *) ((char *) m + counts[i].offset) = (uint32_t) number;
			return true;
		}
	if (strcmp(option, "--seed") == 0)
	{
		if (!g2_cli_int(option, value, INT64_MIN, INT64_MAX, &number, err))
			return false;
		m->seed = (uint64_t) number;
		return true;
	}
	if (strcmp(option, "--ids") == 0)
		return generate_ids(m, value, err);
	if (strcmp(option, "--prompt") == 0)
		m->prompt = g2_span_of(value);
	else if (strcmp(option, "--task") == 0)
		m->task = g2_span_of(value);
	else if (strcmp(option, "--stop") == 0)
	{
		if (m->n_stops == G2_MAX_STOPS)
			return g2_fail(err, G2_E_TOO_LONG, "--stop may be given %d times", G2_MAX_STOPS);
		m->stops[m->n_stops++] = g2_span_of(value);
	}
	else
		return g2_cli_option(cli, option, value, err);
	return true;
}

static void
print_completions(const g2_buf *reply)
{
	static const char *const finish[] = {"?", "length", "stop", "eos"};
	g2_reader	r = g2_read(reply->data, reply->len);
	g2_completions_head head;

	g2_completions_head_get(&r, &head);
	for (uint32_t i = 0; i < head.n && !r.failed; i++)
	{
		g2_completion completion;

		g2_completion_get(&r, &completion);
		if (r.failed)
			break;
		printf("%.*s\n", (int) completion.text.len, completion.text.data);
		fprintf(stderr, "-- %u prompt and %u new tokens in %.3f s, log-probability %.4f, %s\n",
				head.prompt_tokens, completion.n_ids, (double) head.elapsed_us / 1e6,
				completion.logprob, finish[completion.finish & 3]);
	}
}

bool
g2_cmd_generate(int argc, char **argv, g2_error *err)
{
	g2_cli		cli;
	g2_generate m = {.max_new = 50, .n = 1, .top_p = 1, .repetition_penalty = 1,
	.flags = G2_GEN_LOGPROBS};
	g2_writer	w = {.grow = g2_cli_grow};
	g2_engine  *engine = NULL;
	g2_buf		reply = {0};
	bool		ok;

	g2_cli_init(&cli);
	for (int i = 1; i < argc; i += 2)
	{
		if (i + 1 == argc)
			return g2_fail(err, G2_E_PARAM, "option %s needs a value", argv[i]);
		if (!generate_option(&cli, &m, argv[i], argv[i + 1], err))
			return false;
	}
	if (!g2_cli_finish(&cli, err) || !with_engine(&cli, &engine, err))
		return false;
	m.model = g2_span_of(cli.model);
	g2_generate_encode(&w, &m);
	ok = g2_cli_call(engine, G2_MSG_GENERATE, &w, &reply, err);
	if (ok)
		print_completions(&reply);
	g2_free(w.data);
	g2_buf_free(&reply);
	g2_engine_close(engine);
	return ok;
}

/* ---- pack ---- */

static bool
model_options(int argc, char **argv, g2_cli *cli, g2_error *err)
{
	g2_cli_init(cli);
	for (int i = 1; i < argc; i += 2)
	{
		if (i + 1 == argc)
			return g2_fail(err, G2_E_PARAM, "option %s needs a value", argv[i]);
		if (!g2_cli_option(cli, argv[i], argv[i + 1], err))
			return false;
	}
	return g2_cli_finish(cli, err);
}

bool
g2_cmd_pack(int argc, char **argv, g2_error *err)
{
	g2_cli		cli;
	g2_model_paths paths;
	g2_pack    *pack;
	int64_t		start = g2_now_us();

	if (!model_options(argc, argv, &cli, err))
		return false;
	if (!cli.model)
		return g2_fail(err, G2_E_PARAM, "--model is missing");
	paths = g2_cli_paths(&cli);
	if (!g2_pack_open(&paths, cli.model, cli.format, NULL, NULL, &pack, err))
		return false;
	printf("%s\n%llu bytes, %llu parameters, content %s, %.1f ms\n", pack->path,
		   (unsigned long long) pack->bytes, (unsigned long long) pack->description.parameters,
		   pack->content_hash, (double) (g2_now_us() - start) / 1e3);
	for (uint32_t i = 0; i < pack->description.n_warnings; i++)
		printf("warning: %s\n", pack->description.warning[i]);
	g2_pack_close(pack);
	return true;
}

/* ---- info ---- */

bool
g2_cmd_info(int argc, char **argv, g2_error *err)
{
	g2_cli		cli;
	g2_writer	w = {.grow = g2_cli_grow};
	g2_engine  *engine;
	g2_buf		reply = {0};
	g2_info		info;
	bool		ok;

	if (!model_options(argc, argv, &cli, err) ||
		!g2_engine_open(&cli.settings, g2_cli_log, NULL, &engine, err))
		return false;
	ok = g2_cli_call(engine, G2_MSG_INFO, &w, &reply, err);
	if (ok && g2_info_decode(reply.data, reply.len, &info))
		printf("version     %.*s\narithmetic  %.*s\ncpu         %.*s\nthreads     %u\n",
			   (int) info.version.len, info.version.data, (int) info.arithmetic.len,
			   info.arithmetic.data, (int) info.isa.len, info.isa.data, info.threads);
	g2_buf_free(&reply);
	g2_engine_close(engine);
	return ok;
}

/* ---- synth ---- */

bool
g2_cmd_synth(int argc, char **argv, g2_error *err)
{
	g2_synth_options o = {.n_layer = 12, .n_embd = 768, .n_head = 12, .n_ctx = 1024,
	.n_vocab = 50257, .sigma = 0.02, .prefix = true};
	const struct
	{
		const char *name;
		uint32_t   *value;
	}			counts[] = {
		{"--layer", &o.n_layer}, {"--embd", &o.n_embd}, {"--head", &o.n_head},
		{"--inner", &o.n_ff}, {"--ctx", &o.n_ctx}, {"--vocab", &o.n_vocab},
	};
	int64_t		number;

	if (argc < 2 || argv[1][0] == '-')
		return g2_fail(err, G2_E_PARAM, "synth needs a folder as its first argument");
	for (int i = 2; i < argc; i += 2)
	{
		bool		known = false;

		if (i + 1 == argc)
			return g2_fail(err, G2_E_PARAM, "option %s needs a value", argv[i]);
		for (size_t c = 0; c < G2_LENGTH(counts) && !known; c++)
			if (strcmp(argv[i], counts[c].name) == 0)
			{
				known = true;
				if (!g2_cli_int(argv[i], argv[i + 1], 1, 1 << 20, &number, err))
					return false;
				*counts[c].value = (uint32_t) number;
			}
		if (known)
			continue;
		if (strcmp(argv[i], "--sigma") == 0)
		{
			if (!g2_cli_double(argv[i], argv[i + 1], &o.sigma, err))
				return false;
		}
		else if (strcmp(argv[i], "--embed-sigma") == 0)
		{
			if (!g2_cli_double(argv[i], argv[i + 1], &o.embed_sigma, err))
				return false;
		}
		else if (strcmp(argv[i], "--seed") == 0)
		{
			if (!g2_cli_int(argv[i], argv[i + 1], INT64_MIN, INT64_MAX, &number, err))
				return false;
			o.seed = (uint64_t) number;
		}
		else
			return g2_fail(err, G2_E_PARAM, "unknown option %s", argv[i]);
	}
	if (o.n_ff == 0)
		o.n_ff = 4 * o.n_embd;
	return g2_synth(argv[1], &o, err);
}

/* ---- serve ---- */

static bool
listen_at(const char *path, int *fd, g2_error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof address.sun_path)
		return g2_fail(err, G2_E_PARAM, "the socket's path is longer than %zu bytes",
					   sizeof address.sun_path - 1);
	strcpy(address.sun_path, path);
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (*fd < 0 || bind(*fd, (struct sockaddr *) &address, sizeof address) != 0 ||
		listen(*fd, 1024) != 0)
		return g2_fail_errno(err, errno, "listen at", path);
	return true;
}

/* Without options: started by the supervisor, with its descriptors.  With --socket: by hand. */
bool
g2_cmd_serve(int argc, char **argv, g2_error *err)
{
	g2_cli		cli;
	g2_server_options options = {.listen_fd = G2_LISTEN_FD, .control_fd = G2_CONTROL_FD};
	const char *socket_path = NULL;
	bool		ok;

	if (argc == 1)
	{
		/* exec has undone the supervisor's own call: no core dumps, no debugger of this user's:
		 * prompts of all sessions are in this memory. */
		prctl(PR_SET_DUMPABLE, 0);
		return g2_serve(&options, err);
	}
	g2_cli_init(&cli);
	for (int i = 1; i < argc; i += 2)
	{
		if (i + 1 == argc)
			return g2_fail(err, G2_E_PARAM, "option %s needs a value", argv[i]);
		if (strcmp(argv[i], "--socket") == 0)
			socket_path = argv[i + 1];
		else if (!g2_cli_option(&cli, argv[i], argv[i + 1], err))
			return false;
	}
	if (!socket_path)
		return g2_fail(err, G2_E_PARAM, "--socket is missing");
	if (!g2_cli_finish(&cli, err) || !listen_at(socket_path, &options.listen_fd, err))
		return false;
	options.control_fd = -1;
	options.settings = &cli.settings;
	ok = g2_serve(&options, err);
	unlink(socket_path);
	return ok;
}
