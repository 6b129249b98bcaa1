/*
 * zip.h: untrusted zip archives whose entries are stored without compression (PKWARE APPNOTE.TXT
 * 6.3, with the 64-bit sizes of 4.3.14 and 4.5.3), as PyTorch writes its checkpoints.
 */
#ifndef G2_ZIP_H
#define G2_ZIP_H

#include "util.h"

#define G2_ZIP_MAX_ENTRIES 65536
#define G2_ZIP_MAX_DIRECTORY (16u << 20)
#define G2_ZIP_MAX_NAME 512

/* Where the bytes are: an open file, or memory (fd = -1). */
typedef struct g2_zip_source
{
	const char *path;			/* for messages */
	int			fd;
	const void *data;
	uint64_t	size;
} g2_zip_source;

typedef struct g2_zip_entry
{
	const char *name;			/* no NUL behind it */
	size_t		name_len;
	uint64_t	size;
	uint64_t	header;			/* offset of its local header */
} g2_zip_entry;

typedef struct g2_zip g2_zip;

/* Reads the directory; the source's path and data must outlive the result.  22P03 for what is
 * malformed, 0A000 for entries that are compressed or encrypted, 53400 over a limit above. */
extern bool g2_zip_open(const g2_zip_source *source, g2_zip **out, g2_error *err);
extern void g2_zip_close(g2_zip *zip);

/* The entries, sorted by name. */
extern size_t g2_zip_count(const g2_zip *zip);
extern const g2_zip_entry *g2_zip_at(const g2_zip *zip, size_t i);

/* The entry of that name, or NULL. */
extern const g2_zip_entry *g2_zip_find(const g2_zip *zip, const char *name, size_t len);

/* Offset of the entry's bytes in the source, all of which are there. */
extern bool g2_zip_locate(const g2_zip *zip, const g2_zip_entry *entry, uint64_t *offset,
						  g2_error *err);

/* Bytes of the source. */
extern bool g2_zip_read(const g2_zip_source *source, void *to, size_t n, uint64_t offset,
						g2_error *err);

#endif							/* G2_ZIP_H */
