/*
 * cuda_library.c: the library of the CUDA back end, looked for after the driver's, so that a machine
 * without one loads nothing of CUDA.
 *
 * Libraries stay for the life of the process: a driver's does not leave cleanly.
 */
#include "cuda_library.h"

#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "program.h"

#define DRIVER "libcuda.so.1"
#define LIBRARY "gpt2_cuda.so"

static bool
no_library(g2_error *err, const char *why)
{
	g2_fail(err, G2_E_UNSUPPORTED, "no CUDA device can be used: %s", why);
	return g2_fail_hint(err, "Set gpt2.device to \"auto\" or \"cpu\", or see that the NVIDIA driver "
						"and %s are installed.", LIBRARY);
}

/* It stands beside the program. */
static bool
library_path(char *path, size_t size, g2_error *err)
{
	char		program[PATH_MAX];
	ssize_t		n = readlink(G2_RUNNING_PROGRAM, program, sizeof program - 1);

	if (n < 0)
		return no_library(err, "the program's own place is not known");
	program[n] = '\0';
	if ((size_t) snprintf(path, size, "%s/%s", dirname(program), LIBRARY) >= size)
		return no_library(err, "the path of its library is too long");
	return true;
}

bool
g2_cuda_library(const g2_backend_api **api, g2_error *err)
{
	const g2_backend_api *(*table) (void);
	char		path[PATH_MAX];
	void	   *library;

	if (!dlopen(DRIVER, RTLD_NOW | RTLD_LOCAL))
		return no_library(err, "there is no driver (" DRIVER ")");
	if (!library_path(path, sizeof path, err))
		return false;
	if (access(path, F_OK) != 0)
		return no_library(err, "this installation was built without " LIBRARY);
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		return no_library(err, dlerror());
	*(void **) &table = dlsym(library, "g2_cuda_backend");
	if (!table)
		return no_library(err, LIBRARY " is not of this version");
	*api = table();
	if ((*api)->version != G2_BACKEND_VERSION)
		return no_library(err, LIBRARY " is not of this version");
	return true;
}
