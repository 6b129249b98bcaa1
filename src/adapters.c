/*
 * adapters.c: the adapters that stand on a model, by their folders.
 */
#include "compat.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "adapters.h"
#include "encoding.h"
#include "folder.h"
#include "guc.h"

typedef struct Search
{
	const char *base;
	int			n;
	int			hidden;			/* of them */
	StringInfoData names;
} Search;

static void
look_at(Search *s, const char *directory, const char *name)
{
	char	   *folder = psprintf("%s/%s", directory, name),
			   *found = gpt2_is_adapter_folder(folder) ? gpt2_folder_find(name) : NULL,
			   *error,
			   *base;
	Gpt2ModelRoles roles;

	/* The first directory that has a name wins. */
	if (!found || strcmp(found, folder) != 0)
		return;
	base = gpt2_adapter_base(folder, &error);
	if (!base || strcmp(gpt2_to_utf8(base, strlen(base), "model name").data, s->base) != 0)
		return;
	s->n++;
	(void) gpt2_folder_roles(folder, &roles, &error);
	if (gpt2_roles_permit(&roles))
		appendStringInfo(&s->names, "%s%s", s->names.len > 0 ? ", " : "",
						 gpt2_from_utf8(name, strlen(name), NULL));
	else
		s->hidden++;
}

static void
look_in(Search *s, const char *directory)
{
	DIR		   *dir = AllocateDir(directory);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = ReadDirExtended(dir, directory, LOG)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (gpt2_is_model_name(entry->d_name))
			look_at(s, directory, entry->d_name);
	}
	FreeDir(dir);
}

Gpt2Adapters
gpt2_adapters_of(const char *base)
{
	Search		s = {.base = base};
	char	  **directories = gpt2_model_directories();

	initStringInfo(&s.names);
	for (int i = 0; directories[i]; i++)
		look_in(&s, directories[i]);
	if (s.hidden > 0)
		appendStringInfo(&s.names, "%s%d of other roles", s.names.len > 0 ? ", " : "", s.hidden);
	return (Gpt2Adapters) {.n = s.n, .names = s.names.data};
}
