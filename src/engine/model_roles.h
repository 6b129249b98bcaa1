/*
 * model_roles.h: who may use a model, as its gpt2.json says: {"roles": ["hr", "finance"]}.  Without
 * the key everybody; with it members of these roles, its owner (own_json.h) and superusers.  The
 * engine knows no membership: the backend says who is a member (protocol.h).
 */
#ifndef G2_MODEL_ROLES_H
#define G2_MODEL_ROLES_H

#include "model.h"
#include "protocol.h"

#define G2_MAX_ROLE_NAME 252	/* bytes of a role's name: PostgreSQL's 63 of any encoding, in UTF-8 */

typedef struct g2_role_list
{
	bool		restricted;		/* gpt2.json has the key */
	uint32_t	n;
	char	  **names;			/* [n] */
	g2_owner	owner;			/* its name is owner_name */
	char	   *owner_name;		/* NULL = none */
	uint64_t	token;			/* a hash of all this; 0: nobody has read it yet */
	g2_file_state source;		/* of the gpt2.json that says so */
} g2_role_list;

/* Reads the folder of the model.  22032 for an owner that is none, for more than G2_MAX_ROLES names
 * and for a name over G2_MAX_ROLE_NAME bytes: a list cut short would mean something else. */
extern bool g2_role_list_read(const char *model, const char *folder, g2_role_list *list,
							  g2_error *err);
extern void g2_role_list_free(g2_role_list *list);

#endif							/* G2_MODEL_ROLES_H */
