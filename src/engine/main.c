/*
 * main.c: gpt2_engine COMMAND: the engine process and its commands for use by hand.
 */
#include "cli.h"
#include "command.h"

static const g2_command commands[] = {
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
	{"bench", g2_cmd_bench, "--model FOLDER [--adapter NAME]: speed of prefill and decode\n"
		"            against the machine's limits; of decode beside that of an adapter"},
};

int
main(int argc, char **argv)
{
	return g2_run_command("gpt2_engine", commands, G2_LENGTH(commands),
						  "\nCommands with a model also take --models DIRECTORY (searched for names),\n"
						  "--packs DIRECTORY, --format q8|q4|bf16|f32, --threads N,\n"
						  "--cpu auto|portable|avx2|..., --device auto|cpu|cuda|cuda:N, --kv-cache-mb N.\n",
						  argc, argv);
}
