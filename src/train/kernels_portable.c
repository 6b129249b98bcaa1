/*
 * kernels_portable.c: the kernels of training for any machine.
 */

#define K_TABLE g2t_kernels_portable
#define K_NAME "portable"
#include "kernels_body.h"
