/*
 * main.c: gpt2_engine COMMAND: the engine process and its commands for use by hand.
 */
#include <locale.h>
#include <stdio.h>

#include "cli.h"

static const struct
{
	const char *name;
	bool		(*run) (int argc, char **argv, g2_error *err);
	const char *help;
}			commands[] = {
	{"generate", g2_cmd_generate, "--model FOLDER --prompt TEXT|--ids N,N,... [--max-len N] [--n N]\n"
		"            [--temperature T] [--top-k K] [--top-p P] [--min-p P]\n"
		"            [--repetition-penalty R] [--presence-penalty R] [--frequency-penalty R]\n"
		"            [--typical-p P] [--no-repeat-ngram-size N] [--min-new-tokens N]\n"
		"            [--num-beams N] [--length-penalty R] [--seed S] [--stop TEXT]... [--task NAME]\n"
		"            [--choice JSON|--regex REGEX|--json-schema JSON]"},
	{"pack", g2_cmd_pack, "--model FOLDER: convert a model and say where the pack is"},
	{"serve", g2_cmd_serve, "[--socket PATH]: answer requests (without options: started by\n"
		"            PostgreSQL, with descriptors 3 and 4)"},
	{"info", g2_cmd_info, "what this build and machine are"},
	{"synth", g2_cmd_synth, "FOLDER [--layer N] [--embd N] [--head N] [--inner N] [--ctx N]\n"
		"            [--vocab N] [--sigma S] [--embed-sigma S] [--seed S]: a model with\n"
		"            random weights"},
	{"verify", g2_cmd_verify, "FOLDER [--text FILE] [--reference FOLDER] [--max-tokens N]:\n"
		"            check the model's packs and say how near its formats are to f32"},
	{"import", g2_cmd_import, "FOLDER: model.safetensors from its pytorch_model.bin, of\n"
		"            which nothing is run"},
	{"bench", g2_cmd_bench, "--model FOLDER: speed of prefill and decode against the machine's\n"
		"            limits"},
};

static int
usage(FILE *to)
{
	fprintf(to, "gpt2_engine %s\nusage: gpt2_engine COMMAND [options]\n\n", G2_VERSION);
	for (size_t i = 0; i < G2_LENGTH(commands); i++)
		fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].help);
	fprintf(to, "\nCommands with a model also take --models DIRECTORY (searched for names),\n"
			"--packs DIRECTORY, --format q8|q4|bf16|f32, --threads N, --cpu auto|portable|avx2|...,\n"
			"--device auto|cpu|cuda|cuda:N, --kv-cache-mb N.\n");
	return to == stderr ? 2 : 0;
}

int
main(int argc, char **argv)
{
	g2_error	err = {.code = G2_OK};

	setlocale(LC_ALL, "C");
	if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0))
		return usage(stdout);
	if (argc >= 2 && strcmp(argv[1], "--version") == 0)
	{
		printf("gpt2_engine %s\n", G2_VERSION);
		return 0;
	}
	for (size_t i = 0; argc >= 2 && i < G2_LENGTH(commands); i++)
	{
		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		if (commands[i].run(argc - 1, argv + 1, &err))
			return 0;
		fprintf(stderr, "gpt2_engine: %s (%s)\n", err.message, g2_sqlstate(err.code));
		if (err.detail[0])
			fprintf(stderr, "%s\n", err.detail);
		if (err.hint[0])
			fprintf(stderr, "Hint: %s\n", err.hint);
		return 1;
	}
	return usage(stderr);
}
