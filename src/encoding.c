/*
 * encoding.c: text between the database's encoding and the engine's UTF-8.
 *
 * Towards the engine PostgreSQL's own conversion is used; a database in SQL_ASCII declares no
 * encoding, so its bytes pass as they are (the models' tokenizers take any bytes).  A character
 * of the database encoding that UTF-8 lacks is PostgreSQL's usual error.
 *
 * From the engine nothing may fail: the text was made by a model, the user cannot mend it.  A
 * conversion that stops at a character puts '?' in its place and goes on behind it.
 */
#include "compat.h"

#include "catalog/namespace.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/fmgrprotos.h"

#include "encoding.h"

/* No encoding of a server makes more than this of one byte of UTF-8 (GB18030: 4 of 2 or more). */
#define GROWTH 4
/* Conversion goes by pieces, so that the worst-case buffer stays small. */
#define PIECE 65536

g2_span
gpt2_to_utf8(const char *data, size_t len, const char *what)
{
	int			encoding = GetDatabaseEncoding();
	g2_span		out;

	if (len <= G2_MAX_TEXT && encoding != PG_SQL_ASCII && encoding != PG_UTF8)
	{
		char	   *converted = (char *)
			pg_do_encoding_conversion((unsigned char *) unconstify(char *, data), (int) len,
									  encoding, PG_UTF8);

		/* It returns its argument when there was nothing to do. */
		if (converted != data)
		{
			data = converted;
			len = strlen(converted);
		}
	}
	if (len > G2_MAX_TEXT)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s is too long", what),
				 errdetail("It has %zu bytes of UTF-8; the limit is %u.", len, G2_MAX_TEXT),
				 errhint("Split the text.")));
	out.data = data;
	out.len = (uint32_t) len;
	return out;
}

g2_span
gpt2_text_to_utf8(const text *t, const char *what)
{
	return gpt2_to_utf8(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t), what);
}

/* Length of the valid UTF-8 character at s, at most `left`; 0 when there is none. */
static int
character(const char *s, size_t left)
{
	const unsigned char *u = (const unsigned char *) s;
	int			n = pg_utf_mblen(u);

	if (*u == 0 || n > left || !pg_utf8_islegal(u, n))
		return 0;
	return n;
}

#if PG_VERSION_NUM >= 140000

/* Converts as much as goes; returns the bytes taken from src, *made those written to dest. */
static size_t
convert_some(Oid conversion, const char *src, size_t len, char *dest, size_t room, size_t *made)
{
	int			taken;

	taken = pg_do_encoding_conversion_buf(conversion, PG_UTF8, GetDatabaseEncoding(),
										  (unsigned char *) unconstify(char *, src), (int) len,
										  (unsigned char *) dest, (int) room, true);
	*made = strlen(dest);
	return (size_t) taken;
}

#else

/*
 * Before version 14 a conversion function can only raise an error, so it is called with one
 * character at a time and the error is dropped.  That needs no subtransaction: these functions
 * take no lock and open nothing, they look into a table of constants.
 */
static bool
convert_character(Oid conversion, const char *src, int n, char *dest)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool converted = true;

	dest[0] = '\0';
	PG_TRY();
	{
		OidFunctionCall5(conversion, Int32GetDatum(PG_UTF8), Int32GetDatum(GetDatabaseEncoding()),
						 CStringGetDatum(src), CStringGetDatum(dest), Int32GetDatum(n));
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
		dest[0] = '\0';
		converted = false;
	}
	PG_END_TRY();
	return converted;
}

static size_t
convert_some(Oid conversion, const char *src, size_t len, char *dest, size_t room, size_t *made)
{
	size_t		at = 0;

	*made = 0;
	while (at < len)
	{
		int			n = character(src + at, len - at);

		if (n == 0 || !convert_character(conversion, src + at, n, dest + *made))
			break;
		*made += strlen(dest + *made);
		at += n;
	}
	return at;
}

#endif

/* Valid UTF-8 in, '?' for what is not; NULs fall out. */
static void
append_valid(StringInfo out, const char *data, size_t len)
{
	size_t		at = 0;

	while (at < len)
	{
		size_t		begin = at;
		int			n;

		while (at < len && (n = character(data + at, len - at)) > 0)
			at += n;
		appendBinaryStringInfo(out, data + begin, (int) (at - begin));
		if (at < len && data[at++] != '\0')
			appendStringInfoChar(out, '?');
	}
}

static void
append_converted(StringInfo out, const char *data, size_t len)
{
	Oid			conversion = FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding());
	size_t		at = 0;
	char	   *dest = palloc(PIECE * GROWTH + 1);

	while (at < len)
	{
		size_t		piece = Min(len - at, PIECE);
		size_t		made = 0,
					taken = 0;
		int			n;

		/* Not through the middle of a character: its head would be taken for an error. */
		if (at + piece < len)
			for (int back = 0; back < 3 && (data[at + piece] & 0xc0) == 0x80; back++)
				piece--;
		if (OidIsValid(conversion))
			taken = convert_some(conversion, data + at, piece, dest, PIECE * GROWTH + 1, &made);
		else
		{
			/* An encoding without a conversion (MULE_INTERNAL): its ASCII part is sure. */
			while (taken < piece && !IS_HIGHBIT_SET(data[at + taken]))
				taken++;
			memcpy(dest, data + at, taken);
			made = taken;
		}
		appendBinaryStringInfo(out, dest, (int) made);
		at += taken;
		if (taken == piece)
			continue;
		n = character(data + at, len - at);
		appendStringInfoChar(out, '?');
		at += Max(n, 1);
	}
	pfree(dest);
}

char *
gpt2_from_utf8(const char *data, size_t len, size_t *out_len)
{
	StringInfoData valid,
				out;
	int			encoding = GetDatabaseEncoding();

	/* Four times fits into an allocation below; the protocol's bound is far smaller. */
	if (len > G2_MAX_PAYLOAD)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("text of %zu bytes is too long", len)));
	initStringInfo(&valid);
	append_valid(&valid, data, len);
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		out = valid;
	else
	{
		initStringInfo(&out);
		append_converted(&out, valid.data, (size_t) valid.len);
		pfree(valid.data);
	}
	if (out_len)
		*out_len = (size_t) out.len;
	return out.data;
}

text *
gpt2_utf8_to_text(g2_span s)
{
	size_t		len;
	char	   *data = gpt2_from_utf8(s.data, s.len, &len);
	text	   *t = cstring_to_text_with_len(data, (int) len);

	pfree(data);
	return t;
}

/* White_Space of Unicode. */
static bool
is_space(pg_wchar c)
{
	return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
		(c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
		c == 0x205f || c == 0x3000;
}

bool
gpt2_has_content(g2_span s)
{
	size_t		at = 0;

	while (at < s.len)
	{
		int			n = character(s.data + at, s.len - at);

		if (n == 0 || !is_space(utf8_to_unicode((const unsigned char *) s.data + at)))
			return true;
		at += n;
	}
	return false;
}
