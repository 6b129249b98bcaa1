/*
 * cli.c: what the commands of gpt2_engine share: options, and one request to an engine in this
 * process.
 */
#include "cli.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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
