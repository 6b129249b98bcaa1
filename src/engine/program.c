/*
 * program.c: the program file that this process runs.
 */
#include "program.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the kernel appends to the path of a running file that has been unlinked. */
#define DELETED " (deleted)"

void
g2_program_note(g2_program *program, const char *link)
{
	struct stat st;
	ssize_t		len = readlink(link, program->path, sizeof program->path - 1);
	const size_t suffix = strlen(DELETED);

	if (len < 0 || stat(link, &st) != 0)
		len = 0;
	else
	{
		program->dev = st.st_dev;
		program->ino = st.st_ino;
	}
	program->path[len] = '\0';
	if ((size_t) len > suffix && strcmp(program->path + len - suffix, DELETED) == 0)
		program->path[(size_t) len - suffix] = '\0';
}

bool
g2_program_replaced(const g2_program *program)
{
	struct stat st;

	return program->path[0] && stat(program->path, &st) == 0 &&
		(st.st_dev != program->dev || st.st_ino != program->ino);
}
