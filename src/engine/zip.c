/*
 * zip.c: the directory of a zip archive.
 *
 * Everything is taken from the central directory at the end of the file; of an entry's local
 * header only its length matters.  The directory is read once and kept, the entries point into it.
 */
#include "zip.h"

#include <stdlib.h>

#include "file.h"

#define END_SIZE 22				/* end of central directory, without its comment */
#define END_MAX (END_SIZE + 65535)
#define LOCATOR_SIZE 20			/* of the 64-bit end */
#define END64_SIZE 56
#define ENTRY_SIZE 46
#define LOCAL_SIZE 30

struct g2_zip
{
	g2_zip_source source;
	unsigned char *directory;
	g2_zip_entry *entries;
	size_t		n_entries;
};

static bool
malformed(const g2_zip_source *source, const char *what, uint64_t at, g2_error *err)
{
	return g2_fail(err, G2_E_BAD_FILE, "malformed zip archive \"%s\" at byte %llu: %s",
				   source->path, (unsigned long long) at, what);
}

static uint32_t
get16(const unsigned char *p)
{
	return p[0] | (uint32_t) p[1] << 8;
}

static uint32_t
get32(const unsigned char *p)
{
	return get16(p) | get16(p + 2) << 16;
}

static uint64_t
get64(const unsigned char *p)
{
	return get32(p) | (uint64_t) get32(p + 4) << 32;
}

bool
g2_zip_read(const g2_zip_source *source, void *to, size_t n, uint64_t offset, g2_error *err)
{
	if (offset > source->size || n > source->size - offset)
		return malformed(source, "unexpected end", source->size, err);
	if (source->fd >= 0)
		return g2_file_pread(source->fd, source->path, to, n, offset, err);
	if (n > 0)
		memcpy(to, (const char *) source->data + offset, n);
	return true;
}

/* ---------------------------------------------------------------- the end */

typedef struct zip_end
{
	uint64_t	n_entries;
	uint64_t	size;			/* of the central directory */
	uint64_t	offset;
} zip_end;

/* The 64-bit end, where the locator before the other one says that it is. */
static bool
read_end64(const g2_zip_source *source, uint64_t locator, zip_end *end, g2_error *err)
{
	unsigned char p[END64_SIZE];
	uint64_t	at;

	if (!g2_zip_read(source, p, LOCATOR_SIZE, locator, err))
		return false;
	if (memcmp(p, "PK\x06\x07", 4) != 0)
		return malformed(source, "no locator of a 64-bit directory", locator, err);
	at = get64(p + 8);
	if (!g2_zip_read(source, p, sizeof p, at, err))
		return false;
	if (memcmp(p, "PK\x06\x06", 4) != 0)
		return malformed(source, "no 64-bit end of the directory", at, err);
	*end = (zip_end) {get64(p + 32), get64(p + 40), get64(p + 48)};
	return true;
}

/* The end of the directory: the last place where a comment behind it fills the file. */
static bool
read_end(const g2_zip_source *source, zip_end *end, g2_error *err)
{
	size_t		n = (size_t) G2_MIN(source->size, END_MAX),
				at;
	unsigned char *tail = g2_alloc(n + 1),
			   *p;
	bool		ok;

	if (!tail)
		return g2_fail_memory(err, n);
	ok = g2_zip_read(source, tail, n, source->size - n, err);
	for (at = n < END_SIZE ? 0 : n - END_SIZE + 1; ok && at > 0; at--)
		if (memcmp(tail + at - 1, "PK\x05\x06", 4) == 0 &&
			get16(tail + at - 1 + 20) == n - (at - 1) - END_SIZE)
			break;
	if (ok && at == 0)
	{
		ok = g2_fail(err, G2_E_UNSUPPORTED, "\"%s\" is no zip archive", source->path);
		g2_fail_hint(err, "Checkpoints of PyTorch before version 1.6 are none; load and save it "
					 "again with a later one.");
	}
	if (ok)
	{
		uint64_t	place = source->size - n + --at;

		p = tail + at;
		*end = (zip_end) {get16(p + 10), get32(p + 12), get32(p + 16)};
		if (end->n_entries == 0xFFFF || end->size == 0xFFFFFFFF || end->offset == 0xFFFFFFFF)
			ok = place >= LOCATOR_SIZE ? read_end64(source, place - LOCATOR_SIZE, end, err)
				: malformed(source, "no locator of a 64-bit directory", 0, err);
	}
	g2_free(tail);
	return ok;
}

/* ---------------------------------------------------------------- the directory */

/* Sizes that do not fit into 32 bits are in an extra field, in this order, those that need it. */
static bool
read_extra(const unsigned char *p, size_t len, uint64_t *value[3])
{
	while (len >= 4)
	{
		size_t		n = get16(p + 2),
					at = 4;

		if (n > len - 4)
			return false;
		for (int i = 0; get16(p) == 1 && i < 3; i++)
			if (*value[i] == 0xFFFFFFFF)
			{
				if (at + 8 > n + 4)
					return false;
				*value[i] = get64(p + at);
				at += 8;
			}
		p += n + 4;
		len -= n + 4;
	}
	return true;
}

/* The entry at p, of which left bytes are there; *used = its bytes. */
static bool
read_entry(const g2_zip *zip, const unsigned char *p, size_t left, uint64_t place,
		   g2_zip_entry *e, size_t *used, g2_error *err)
{
	uint64_t	packed;
	size_t		extra;

	if (left < ENTRY_SIZE || memcmp(p, "PK\x01\x02", 4) != 0)
		return malformed(&zip->source, "no entry of the directory", place, err);
	e->name = (const char *) p + ENTRY_SIZE;
	e->name_len = get16(p + 28);
	extra = get16(p + 30);
	*used = ENTRY_SIZE + e->name_len + extra + get16(p + 32);
	packed = get32(p + 20);
	e->size = get32(p + 24);
	e->header = get32(p + 42);
	if (*used > left)
		return malformed(&zip->source, "unfinished entry of the directory", place, err);
	if (!read_extra(p + ENTRY_SIZE + e->name_len, extra,
					(uint64_t *[]) {&e->size, &packed, &e->header}))
		return malformed(&zip->source, "bad extra field", place, err);
	if (e->name_len == 0 || e->name_len > G2_ZIP_MAX_NAME)
		return malformed(&zip->source, "name is empty or too long", place, err);
	if (get16(p + 8) & 1)
		return g2_fail(err, G2_E_UNSUPPORTED, "an entry of \"%s\" is encrypted",
					   zip->source.path);
	if (get16(p + 10) != 0)
		return g2_fail(err, G2_E_UNSUPPORTED, "an entry of \"%s\" is compressed",
					   zip->source.path);
	if (packed != e->size)
		return malformed(&zip->source, "a stored entry has two sizes", place, err);
	return true;
}

static int
name_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int			order = memcmp(a, b, G2_MIN(a_len, b_len));

	return order ? order : a_len < b_len ? -1 : a_len > b_len;
}

static int
entry_compare(const void *a, const void *b)
{
	const g2_zip_entry *x = a,
			   *y = b;

	return name_compare(x->name, x->name_len, y->name, y->name_len);
}

static bool
read_directory(g2_zip *zip, const zip_end *end, g2_error *err)
{
	size_t		at = 0;

	if (end->n_entries > G2_ZIP_MAX_ENTRIES || end->size > G2_ZIP_MAX_DIRECTORY)
		return g2_fail(err, G2_E_LIMIT, "\"%s\" has more than %d entries, or more than %u bytes of "
					   "directory", zip->source.path, G2_ZIP_MAX_ENTRIES, G2_ZIP_MAX_DIRECTORY);
	zip->directory = g2_alloc((size_t) end->size + 1);
	zip->entries = g2_alloc_array((size_t) end->n_entries + 1, sizeof *zip->entries);
	if (!zip->directory || !zip->entries)
		return g2_fail_memory(err, end->size + end->n_entries * sizeof *zip->entries);
	if (!g2_zip_read(&zip->source, zip->directory, (size_t) end->size, end->offset, err))
		return false;
	for (; zip->n_entries < end->n_entries; zip->n_entries++)
	{
		size_t		used = 0;

		if (!read_entry(zip, zip->directory + at, (size_t) end->size - at, end->offset + at,
						&zip->entries[zip->n_entries], &used, err))
			return false;
		at += used;
	}
	qsort(zip->entries, zip->n_entries, sizeof *zip->entries, entry_compare);
	for (size_t i = 1; i < zip->n_entries; i++)
		if (entry_compare(&zip->entries[i - 1], &zip->entries[i]) == 0)
			return malformed(&zip->source, "two entries of one name", end->offset, err);
	return true;
}

bool
g2_zip_open(const g2_zip_source *source, g2_zip **out, g2_error *err)
{
	g2_zip	   *zip = g2_alloc(sizeof *zip);
	zip_end		end = {0};

	*out = NULL;
	if (!zip)
		return g2_fail_memory(err, sizeof *zip);
	zip->source = *source;
	if (!read_end(source, &end, err) || !read_directory(zip, &end, err))
	{
		g2_zip_close(zip);
		return false;
	}
	*out = zip;
	return true;
}

void
g2_zip_close(g2_zip *zip)
{
	if (!zip)
		return;
	g2_free(zip->directory);
	g2_free(zip->entries);
	g2_free(zip);
}

/* ---------------------------------------------------------------- entries */

size_t
g2_zip_count(const g2_zip *zip)
{
	return zip->n_entries;
}

const g2_zip_entry *
g2_zip_at(const g2_zip *zip, size_t i)
{
	return &zip->entries[i];
}

const g2_zip_entry *
g2_zip_find(const g2_zip *zip, const char *name, size_t len)
{
	const g2_zip_entry key = {.name = name,.name_len = len};

	return bsearch(&key, zip->entries, zip->n_entries, sizeof key, entry_compare);
}

bool
g2_zip_locate(const g2_zip *zip, const g2_zip_entry *entry, uint64_t *offset, g2_error *err)
{
	unsigned char p[LOCAL_SIZE];

	if (!g2_zip_read(&zip->source, p, sizeof p, entry->header, err))
		return false;
	if (memcmp(p, "PK\x03\x04", 4) != 0)
		return malformed(&zip->source, "no entry", entry->header, err);
	*offset = entry->header + LOCAL_SIZE + get16(p + 26) + get16(p + 28);
	if (*offset > zip->source.size || entry->size > zip->source.size - *offset)
		return malformed(&zip->source, "an entry goes beyond the end", entry->header, err);
	return true;
}
