/*
 * program.h: the program file that this process runs, and whether it is still the installed one.
 *
 * A package upgrade puts a new file in the place of the old, which lives on as long as it runs.
 * Owned by the engine's thread; read once at its start.
 */
#ifndef G2_PROGRAM_H
#define G2_PROGRAM_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#define G2_RUNNING_PROGRAM "/proc/self/exe"

typedef struct g2_program
{
	char		path[PATH_MAX];	/* where it was started from; empty = not known */
	dev_t		dev;
	ino_t		ino;
} g2_program;

/* link: a symbolic link to the file, G2_RUNNING_PROGRAM but in tests. */
extern void g2_program_note(g2_program *program, const char *link);

/* Another file lies in its place now.  None, while a package is exchanged, is not another. */
extern bool g2_program_replaced(const g2_program *program);

#endif							/* G2_PROGRAM_H */
