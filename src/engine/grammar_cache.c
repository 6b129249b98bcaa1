/*
 * grammar_cache.c: a list of compiled constraints, the one used last in front.
 *
 * The list is short: what is in it takes kilobytes each, and it is looked through once per request.
 * Vocabularies live as long as constraints that were compiled for them.
 */
#include "grammar_cache.h"

#include <pthread.h>

#include "text.h"

#define MAX_ENTRIES 256			/* that nobody holds */

typedef struct vocabulary
{
	struct vocabulary *next;
	char		content[65];
	uint32_t	users;			/* entries, and threads that compile */
	g2_lexicon *lexicon;
} vocabulary;

typedef struct entry
{
	struct entry *next;
	vocabulary *vocabulary;
	g2_constraint_kind kind;
	uint32_t	users;			/* requests */
	g2_grammar *grammar;
	uint32_t	len;
	char		text[];
} entry;

struct g2_grammars
{
	pthread_mutex_t lock;		/* of all below, but for what is immutable */
	vocabulary *vocabularies;
	entry	   *entries;
	size_t		kept;			/* bytes of entries without users */
	size_t		held;			/* of those with */
	uint32_t	n_kept;
};

bool
g2_grammars_open(g2_grammars **out, g2_error *err)
{
	g2_grammars *grammars = g2_alloc(sizeof *grammars);

	if (!grammars)
		return g2_fail_memory(err, sizeof *grammars);
	pthread_mutex_init(&grammars->lock, NULL);
	*out = grammars;
	return true;
}

/* ---- vocabularies ---- */

static vocabulary *
find_vocabulary(const g2_grammars *grammars, const char *content)
{
	vocabulary *v = grammars->vocabularies;

	while (v && strcmp(v->content, content) != 0)
		v = v->next;
	return v;
}

static void
leave_vocabulary(g2_grammars *grammars, vocabulary *v)
{
	vocabulary **at = &grammars->vocabularies;

	if (--v->users > 0)
		return;
	while (*at != v)
		at = &(*at)->next;
	*at = v->next;
	g2_lexicon_free(v->lexicon);
	g2_free(v);
}

/* Held until it is left.  The lock is taken, but not while one is made. */
static bool
hold_vocabulary(g2_grammars *grammars, const g2_pack *pack, vocabulary **out, g2_error *err)
{
	vocabulary *made,
			   *v = find_vocabulary(grammars, pack->vocabulary_hash);
	bool		ok;

	if (!v)
	{
		pthread_mutex_unlock(&grammars->lock);
		made = g2_alloc(sizeof *made);
		ok = made ? g2_lexicon_new(pack->tokenizer, pack->description.end_token, &made->lexicon, err)
			: g2_fail_memory(err, sizeof *made);
		pthread_mutex_lock(&grammars->lock);
		if (!ok)
		{
			g2_free(made);
			return false;
		}
		v = find_vocabulary(grammars, pack->vocabulary_hash);
		if (v)
		{
			g2_lexicon_free(made->lexicon);
			g2_free(made);
		}
		else
		{
			v = made;
			memcpy(v->content, pack->vocabulary_hash, sizeof v->content);
			v->next = grammars->vocabularies;
			grammars->vocabularies = v;
		}
	}
	v->users++;
	*out = v;
	return true;
}

/* ---- entries ---- */

static size_t
bytes_of(const entry *e)
{
	return sizeof *e + e->len + e->grammar->bytes;
}

static void
free_entry(g2_grammars *grammars, entry *e)
{
	leave_vocabulary(grammars, e->vocabulary);
	g2_grammar_free(e->grammar);
	g2_wipe_free(e, sizeof *e + e->len);
}

/* Frees what nobody holds and was not used for the longest time, as far as there is too much. */
static void
trim(g2_grammars *grammars, size_t capacity)
{
	while (grammars->kept > capacity || grammars->n_kept > MAX_ENTRIES)
	{
		entry	  **last = NULL,
				   *e;

		for (entry **at = &grammars->entries; *at; at = &(*at)->next)
			if ((*at)->users == 0)
				last = at;
		e = *last;
		*last = e->next;
		grammars->kept -= bytes_of(e);
		grammars->n_kept--;
		free_entry(grammars, e);
	}
}

/* Moved to the front, and held. */
static const g2_grammar *
hold(g2_grammars *grammars, entry **at)
{
	entry	   *e = *at;

	*at = e->next;
	e->next = grammars->entries;
	grammars->entries = e;
	if (e->users++ == 0)
	{
		grammars->kept -= bytes_of(e);
		grammars->n_kept--;
		grammars->held += bytes_of(e);
	}
	return e->grammar;
}

/* Where it is linked; at the end where there is none. */
static entry **
find_entry(g2_grammars *grammars, const char *content, g2_constraint_kind kind, g2_span text)
{
	entry	  **at = &grammars->entries;

	while (*at && !((*at)->kind == kind && (*at)->len == text.len &&
					memcmp((*at)->text, text.data, text.len) == 0 &&
					strcmp((*at)->vocabulary->content, content) == 0))
		at = &(*at)->next;
	return at;
}

static const g2_grammar *
find(g2_grammars *grammars, const char *content, g2_constraint_kind kind, g2_span text)
{
	entry	  **at = find_entry(grammars, content, kind, text);

	return *at ? hold(grammars, at) : NULL;
}

/* Puts a new one into the list, as kept. */
static bool
add_entry(g2_grammars *grammars, vocabulary *v, g2_constraint_kind kind, g2_span text,
		  g2_grammar *grammar, g2_error *err)
{
	entry	   *e = g2_alloc(sizeof *e + text.len);

	if (!e)
		return g2_fail_memory(err, sizeof *e + text.len);
	e->vocabulary = v;
	e->kind = kind;
	e->grammar = grammar;
	e->len = text.len;
	memcpy(e->text, text.data, text.len);
	if (grammars->held + bytes_of(e) > G2_GRAMMARS_HELD)
	{
		g2_free(e);
		g2_fail(err, G2_E_LIMIT, "the constraints of the requests in flight need more than %zu MB",
				G2_GRAMMARS_HELD >> 20);
		return g2_fail_hint(err, "Retry when others are done, or with a simpler constraint.");
	}
	v->users++;
	e->next = grammars->entries;
	grammars->entries = e;
	grammars->kept += bytes_of(e);
	grammars->n_kept++;
	return true;
}

static bool
compile(g2_grammars *grammars, vocabulary *v, g2_constraint_kind kind, g2_span text,
		const atomic_bool *cancel, const g2_grammar **out, g2_error *err)
{
	g2_grammar *grammar;
	bool		ok;

	pthread_mutex_unlock(&grammars->lock);
	ok = g2_grammar_compile(kind, text.data, text.len, v->lexicon, cancel, &grammar, err);
	pthread_mutex_lock(&grammars->lock);
	if (!ok)
		return false;
	*out = find(grammars, v->content, kind, text);
	if (!*out && add_entry(grammars, v, kind, text, grammar, err))
	{
		*out = hold(grammars, &grammars->entries);
		return true;
	}
	g2_grammar_free(grammar);
	return *out != NULL;
}

bool
g2_grammars_get(g2_grammars *grammars, const g2_pack *pack, g2_constraint_kind kind,
				g2_span text, const atomic_bool *cancel, const g2_grammar **out, g2_error *err)
{
	vocabulary *v;
	bool		ok = true;

	pthread_mutex_lock(&grammars->lock);
	*out = find(grammars, pack->vocabulary_hash, kind, text);
	if (!*out)
	{
		ok = hold_vocabulary(grammars, pack, &v, err);
		if (ok)
		{
			ok = compile(grammars, v, kind, text, cancel, out, err);
			leave_vocabulary(grammars, v);
		}
	}
	pthread_mutex_unlock(&grammars->lock);
	return ok;
}

bool
g2_grammars_has(g2_grammars *grammars, const g2_pack *pack, g2_constraint_kind kind, g2_span text)
{
	bool		has;

	pthread_mutex_lock(&grammars->lock);
	has = *find_entry(grammars, pack->vocabulary_hash, kind, text) != NULL;
	pthread_mutex_unlock(&grammars->lock);
	return has;
}

void
g2_grammars_release(g2_grammars *grammars, const g2_grammar *grammar)
{
	entry	   *e;

	if (!grammar)
		return;
	pthread_mutex_lock(&grammars->lock);
	for (e = grammars->entries; e->grammar != grammar;)
		e = e->next;
	if (--e->users == 0)
	{
		grammars->held -= bytes_of(e);
		grammars->kept += bytes_of(e);
		grammars->n_kept++;
		trim(grammars, G2_GRAMMARS_KEPT);
	}
	pthread_mutex_unlock(&grammars->lock);
}

void
g2_grammars_close(g2_grammars *grammars)
{
	if (!grammars)
		return;
	trim(grammars, 0);
	pthread_mutex_destroy(&grammars->lock);
	g2_free(grammars);
}
