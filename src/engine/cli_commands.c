/*
 * cli_commands.c: the commands pack, info, synth and serve of gpt2_engine, for use by hand; serve is
 * what the supervisor starts, too.
 */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "server.h"
#include "synth.h"

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
	g2_writer	w = {.grow = g2_realloc};
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
