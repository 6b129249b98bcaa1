/*
 * pack_purge.c: removing packed weights.
 *
 * The directory may hold files of others (gpt2.pack_directory): a pack is known by its name, as
 * engine/pack_files.c makes it, <name>-<format>-<16 hex>.pack, where the digits begin the SHA-256 of
 * the real path of the model's folder, and a temporary by having .<pid>.<n>.tmp behind that.  The
 * writer of a temporary holds a lock on it (flock): one that is locked belongs to an engine that has
 * been started meanwhile.
 */
#include "compat.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "engine/protocol_watch.h"
#include "guc.h"
#include "pack_purge.h"

#define SUFFIX ".pack"
#define HASH_DIGITS 16

static bool
is_format(const char *name, size_t len)
{
	static const char *const formats[] = {G2_FORMAT_NAMES};

	for (int i = 0; i < lengthof(formats); i++)
		if (strlen(formats[i]) == len && strncmp(name, formats[i], len) == 0)
			return true;
	return false;
}

/* <name>-<format>-<16 hex>.pack, len bytes of it. */
static bool
is_pack(const char *name, size_t len)
{
	const size_t suffix = strlen(SUFFIX),
				tail = 1 + HASH_DIGITS + suffix;
	size_t		format;

	if (name[0] == '.' || len <= tail || strncmp(name + len - suffix, SUFFIX, suffix) != 0 ||
		name[len - tail] != '-' ||
		strspn(name + len - tail + 1, "0123456789abcdef") != HASH_DIGITS)
		return false;
	len -= tail;
	for (format = 0; format < len && name[len - format - 1] != '-';)
		format++;
	return format + 1 < len && is_format(name + len - format, format);
}

/* A pack's name with .<pid>.<n>.tmp behind it. */
static bool
is_temporary(const char *name)
{
	const char *end = strstr(name, SUFFIX ".");
	const char *next;

	/* A model's name may have that in it too. */
	while (end && (next = strstr(end + 1, SUFFIX ".")) != NULL)
		end = next;
	if (!end || !is_pack(name, (size_t) (end - name) + strlen(SUFFIX)))
		return false;
	end += strlen(SUFFIX ".");
	end += strspn(end, "0123456789");
	if (*end++ != '.')
		return false;
	end += strspn(end, "0123456789");
	return strcmp(end, ".tmp") == 0;
}

/* The file cannot be locked because somebody has it locked. */
static bool
is_being_written(const char *path)
{
	int			fd = OpenTransientFile(path, O_RDONLY | PG_BINARY | O_NOFOLLOW | O_NONBLOCK);
	bool		locked;

	if (fd < 0)
		return false;
	locked = flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
	CloseTransientFile(fd);
	return locked;
}

/* Is it one of the folder with this hash (NULL = of any), or what writing one has left behind? */
static bool
is_of(const char *name, const char *hash)
{
	const size_t len = strlen(name),
				tail = HASH_DIGITS + strlen(SUFFIX);

	if (!hash)
		return is_pack(name, len) || is_temporary(name);
	return is_pack(name, len) && strncmp(name + len - tail, hash, HASH_DIGITS) == 0;
}

static void
purge_file(const char *directory, const char *name)
{
	char	   *path = psprintf("%s/%s", directory, name);
	struct stat st;

	if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) &&
		(is_pack(name, strlen(name)) || !is_being_written(path)) &&
		unlink(path) != 0 && errno != ENOENT)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not remove file \"%s\": %m", path)));
	pfree(path);
}

static void
purge(const char *hash)
{
	g2_settings settings;
	const char *directory;
	DIR		   *dir;
	struct dirent *entry;

	gpt2_engine_settings(&settings);
	directory = settings.pack_directory.data;
	dir = AllocateDir(directory);
	if (!dir && errno == ENOENT)
		return;
	while ((entry = ReadDir(dir, directory)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (is_of(entry->d_name, hash))
			purge_file(directory, entry->d_name);
	}
	FreeDir(dir);
}

void
gpt2_purge_packs(void)
{
	purge(NULL);
}

void
gpt2_purge_packs_of(const char *real_folder)
{
	bytea	   *path = DatumGetByteaPP(CStringGetTextDatum(real_folder)),
			   *digest = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea,
															 PointerGetDatum(path)));
	char		hash[HASH_DIGITS + 1];

	hex_encode(VARDATA_ANY(digest), HASH_DIGITS / 2, hash);
	hash[HASH_DIGITS] = '\0';
	purge(hash);
}
