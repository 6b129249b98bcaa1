/*
 * error.c: the table from causes to SQLSTATEs and the functions that fill a g2_error.
 */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const sqlstates[G2_N_CODES] = {
	[G2_OK] = "00000",
	[G2_E_PARAM] = "22023",
	[G2_E_TOO_LONG] = "54000",
	[G2_E_NAME] = "42602",
	[G2_E_NOT_FOUND] = "42704",
	[G2_E_UNSUPPORTED] = "0A000",
	[G2_E_BAD_JSON] = "22032",
	[G2_E_BAD_FILE] = "22P03",
	[G2_E_NO_FILE] = "58P01",
	[G2_E_PERMISSION] = "42501",
	[G2_E_IO] = "58030",
	[G2_E_DISK_FULL] = "53100",
	[G2_E_MEMORY] = "53200",
	[G2_E_LIMIT] = "53400",
	[G2_E_CANCELED] = "57014",
	[G2_E_VERSION] = "55000",
	[G2_E_SYSTEM] = "58000",
	[G2_E_INTERNAL] = "XX000",
};

const char *
g2_sqlstate(g2_code code)
{
	if ((int) code < 0 || code >= G2_N_CODES)
		return "XX000";
	return sqlstates[code];
}

bool
g2_fail(g2_error *err, g2_code code, const char *fmt, ...)
{
	va_list		ap;

	if (!err)
		return false;
	err->code = code;
	err->detail[0] = err->hint[0] = '\0';
	err->of_options = false;
	va_start(ap, fmt);
	vsnprintf(err->message, sizeof err->message, fmt, ap);
	va_end(ap);
	return false;
}

bool
g2_fail_detail(g2_error *err, const char *fmt, ...)
{
	va_list		ap;

	if (!err)
		return false;
	va_start(ap, fmt);
	vsnprintf(err->detail, sizeof err->detail, fmt, ap);
	va_end(ap);
	return false;
}

bool
g2_fail_hint(g2_error *err, const char *fmt, ...)
{
	va_list		ap;

	if (!err)
		return false;
	va_start(ap, fmt);
	vsnprintf(err->hint, sizeof err->hint, fmt, ap);
	va_end(ap);
	return false;
}

bool
g2_fail_options(g2_error *err)
{
	if (err)
		err->of_options = true;
	return false;
}

static const char *memory_of = "the engine",
		   *memory_hint = "Retry later, or lower gpt2.kv_cache_size or gpt2.model_memory.";

void
g2_memory_words(const char *program, const char *hint)
{
	memory_of = program;
	memory_hint = hint;
}

bool
g2_fail_memory(g2_error *err, unsigned long long bytes)
{
	g2_fail(err, G2_E_MEMORY, "out of memory in %s (%llu bytes wanted)", memory_of, bytes);
	return g2_fail_hint(err, "%s", memory_hint);
}

bool
g2_fail_errno(g2_error *err, int errnum, const char *verb, const char *path)
{
	g2_code		code = G2_E_IO;

	switch (errnum)
	{
		case ENOENT:
		case ENOTDIR:
			code = G2_E_NO_FILE;
			break;
		case EACCES:
		case EPERM:
		case ELOOP:
			code = G2_E_PERMISSION;
			break;
		case ENOSPC:
		case EDQUOT:
			code = G2_E_DISK_FULL;
			break;
		case ENOMEM:
			code = G2_E_MEMORY;
			break;
	}
	return g2_fail(err, code, "could not %s \"%s\": %s", verb, path, strerror(errnum));
}
