/*
 * commands.h: the commands of gpt2_train; argv[0] is the command's name.
 */
#ifndef G2T_COMMANDS_H
#define G2T_COMMANDS_H

#include "util.h"

extern bool g2t_cmd_serve(int argc, char **argv, g2_error *err);
extern bool g2t_cmd_bench(int argc, char **argv, g2_error *err);

#endif							/* G2T_COMMANDS_H */
