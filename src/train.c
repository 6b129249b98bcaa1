/*
 * train.c: gpt_train and gpt_finetune: from the arguments of a CALL to a finished model.
 *
 * The work is done by a process of its own (trainers.c), which the supervisor starts: this backend
 * checks who may do what, reads the query's rows for it, and waits.  The CALL's end, whatever ends
 * it, ends that process; what it has done stays, and the same CALL goes on from there.
 *
 * A new model belongs to the current user, and is for that role until it is granted: gpt2.json says
 * so.  One that replaces another belongs to whom that one did.
 */
#include "compat.h"

#include <math.h>
#include <unistd.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "adapters.h"
#include "drop_model.h"
#include "encoding.h"
#include "folder.h"
#include "guc.h"
#include "model_locks.h"
#include "owner.h"
#include "train_connection.h"
#include "train_rows.h"
#include "trainings.h"

PG_FUNCTION_INFO_V1(gpt2_train);
PG_FUNCTION_INFO_V1(gpt2_finetune);

#define ACTIVATION_MEMORY ((uint64) 1 << 30)

/* Arguments of gpt_train before those that both have. */
enum
{
	TRAIN_MODEL, TRAIN_QUERY, TRAIN_TOKENIZER, TRAIN_VOCAB_SIZE, TRAIN_SIZE, TRAIN_N_LAYER,
	TRAIN_N_HEAD, TRAIN_N_EMBD, TRAIN_CONTEXT, TRAIN_COMMON
};

/* Of gpt_finetune. */
enum
{
	TUNE_BASE, TUNE_QUERY, TUNE_MODEL, TUNE_LORA_RANK, TUNE_LORA_ALPHA, TUNE_MERGE, TUNE_COMMON
};

/* What both have, from there on. */
enum
{
	ARG_STEPS, ARG_EPOCHS, ARG_BATCH_TOKENS, ARG_LEARNING_RATE, ARG_SCHEDULE, ARG_WARMUP_STEPS,
	ARG_OPTIMIZER, ARG_BETA1, ARG_BETA2, ARG_WEIGHT_DECAY, ARG_GRAD_CLIP, ARG_DROPOUT,
	ARG_EVAL_FRACTION, ARG_EVAL_EVERY, ARG_PATIENCE, ARG_SEED, ARG_THREADS, ARG_REPLACE
};

/* ---- arguments ---- */

static char *
required_text(FunctionCallInfo fcinfo, int i, const char *name)
{
	if (PG_ARGISNULL(i))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be null", name)));
	return text_to_cstring(PG_GETARG_TEXT_PP(i));
}

/* The process that trains checks the ranges; here is only what an unsigned number does not hold. */
static uint32
int_argument(FunctionCallInfo fcinfo, int i, const char *name, uint32 otherwise)
{
	if (PG_ARGISNULL(i))
		return otherwise;
	if (PG_GETARG_INT32(i) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", name)));
	return (uint32) PG_GETARG_INT32(i);
}

static double
real_argument(FunctionCallInfo fcinfo, int i, double otherwise)
{
	return PG_ARGISNULL(i) ? otherwise : PG_GETARG_FLOAT8(i);
}

/* The position of the argument's value in a list that ends with NULL; 0 where it is NULL. */
static uint32
choice_argument(FunctionCallInfo fcinfo, int i, const char *name, const char *const *choices)
{
	StringInfoData list;
	char	   *value;

	if (PG_ARGISNULL(i))
		return 0;
	value = text_to_cstring(PG_GETARG_TEXT_PP(i));
	for (uint32 c = 0; choices[c]; c++)
		if (strcmp(value, choices[c]) == 0)
			return c;
	initStringInfo(&list);
	for (int c = 0; choices[c]; c++)
		appendStringInfo(&list, "%s%s", c ? ", " : "", choices[c]);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s \"%s\" is unknown", name, value),
			 errhint("Choices: %s.", list.data)));
}

static uint32
default_threads(void)
{
	long		cores = sysconf(_SC_NPROCESSORS_ONLN);

	return gpt2_train_threads > 0 ? (uint32) gpt2_train_threads : (uint32) Max(cores / 2, 1);
}

static void
read_length(FunctionCallInfo fcinfo, int at, double epochs, g2_train *t)
{
	bool		by_steps = !PG_ARGISNULL(at + ARG_STEPS);

	t->steps = int_argument(fcinfo, at + ARG_STEPS, "steps", 0);
	t->epochs = real_argument(fcinfo, at + ARG_EPOCHS, by_steps ? 0 : epochs);
	if (by_steps && !PG_ARGISNULL(at + ARG_EPOCHS))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("steps and epochs cannot be given together")));
	if (by_steps && t->steps == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("steps must be at least 1")));
}

/* Threads are a share of the machine that an administrator gives. */
static uint32
read_threads(FunctionCallInfo fcinfo, int i)
{
	uint32		threads = int_argument(fcinfo, i, "threads", default_threads());

	if (threads == 0 || threads > default_threads())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("threads must be between 1 and %u", default_threads()),
				 errhint("gpt2.train_threads is the limit; 0 stands for half of the cores.")));
	return threads;
}

static void
read_common(FunctionCallInfo fcinfo, int at, double epochs, double rate, double decay, g2_train *t)
{
	static const char *const schedules[] = {"constant", "cosine", "linear", NULL},
			   *const optimizers[] = {"adamw", "adam", "sgd", NULL};
	bool		sgd;

	t->optimizer = choice_argument(fcinfo, at + ARG_OPTIMIZER, "optimizer", optimizers);
	sgd = t->optimizer == 2;
	t->schedule = PG_ARGISNULL(at + ARG_SCHEDULE) ? 1 :
		choice_argument(fcinfo, at + ARG_SCHEDULE, "schedule", schedules);
	read_length(fcinfo, at, epochs, t);
	t->batch_tokens = int_argument(fcinfo, at + ARG_BATCH_TOKENS, "batch_tokens", 1024);
	t->learning_rate = real_argument(fcinfo, at + ARG_LEARNING_RATE, sgd ? 0.05 : rate);
	t->warmup_steps = int_argument(fcinfo, at + ARG_WARMUP_STEPS, "warmup_steps", G2_TRAIN_AUTO);
	t->beta1 = real_argument(fcinfo, at + ARG_BETA1, 0.9);
	t->beta2 = real_argument(fcinfo, at + ARG_BETA2, 0.99);
	t->weight_decay = real_argument(fcinfo, at + ARG_WEIGHT_DECAY, sgd ? 0 : decay);
	t->grad_clip = real_argument(fcinfo, at + ARG_GRAD_CLIP, 1);
	t->dropout = real_argument(fcinfo, at + ARG_DROPOUT, 0);
	t->eval_fraction = real_argument(fcinfo, at + ARG_EVAL_FRACTION, 0.05);
	t->eval_every = int_argument(fcinfo, at + ARG_EVAL_EVERY, "eval_every", 0);
	t->patience = int_argument(fcinfo, at + ARG_PATIENCE, "patience", 0);
	t->seed = PG_ARGISNULL(at + ARG_SEED) ? 0 : (uint64) PG_GETARG_INT64(at + ARG_SEED);
	t->threads = read_threads(fcinfo, at + ARG_THREADS);
	if (!PG_ARGISNULL(at + ARG_REPLACE) && PG_GETARG_BOOL(at + ARG_REPLACE))
		t->replace = superuser() ? G2_TRAIN_REPLACE_ANY : G2_TRAIN_REPLACE_OWN;
	t->nice = (uint32) gpt2_nice;
	t->memory = ACTIVATION_MEMORY;
	t->checkpoint_seconds = (uint32) gpt2_train_checkpoint_interval;
	t->keep_free = (uint64) max_wal_size_mb * 2 * 1024 * 1024;
}

/* The size of a new model: a preset, each of whose numbers can be given too. */
static void
read_shape(FunctionCallInfo fcinfo, g2_train *t)
{
	static const char *const names[] = {"tiny", "small", "gpt2", NULL},
			   *const tokenizers[] = {"char", "byte", "bpe", NULL};
	static const uint32 sizes[][4] = {{4, 4, 128, 256}, {6, 6, 384, 512}, {12, 12, 768, 1024}};
	const uint32 *size = sizes[choice_argument(fcinfo, TRAIN_SIZE, "size", names)];
	bool		bpe;

	t->tokenizer = PG_ARGISNULL(TRAIN_TOKENIZER) ? 2 :
		choice_argument(fcinfo, TRAIN_TOKENIZER, "tokenizer", tokenizers);
	bpe = t->tokenizer == 2;
	t->vocab_size = int_argument(fcinfo, TRAIN_VOCAB_SIZE, "vocab_size", bpe ? 4096 : 0);
	if (t->tokenizer == 1 && t->vocab_size != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("vocab_size cannot be given for tokenizer \"byte\""),
				 errdetail("It always has 257 tokens.")));
	t->n_layer = int_argument(fcinfo, TRAIN_N_LAYER, "n_layer", size[0]);
	t->n_head = int_argument(fcinfo, TRAIN_N_HEAD, "n_head", size[1]);
	t->n_embd = int_argument(fcinfo, TRAIN_N_EMBD, "n_embd", size[2]);
	t->context = int_argument(fcinfo, TRAIN_CONTEXT, "context", size[3]);
}

/* ---- models ---- */

/* The finished model must be found there. */
static void
check_model_path(void)
{
	char	  **directories = gpt2_model_directories();
	char	   *target = psprintf("%s/%s", DataDir, G2_TRAIN_MODELS);

	for (int i = 0; directories[i]; i++)
		if (strcmp(directories[i], target) == 0)
			return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("a trained model would not be found"),
			 errdetail("It is put into %s in the data directory, which gpt2.model_path does not "
					   "name.", G2_TRAIN_MODELS),
			 errhint("Add it to gpt2.model_path.")));
}

/* A model's name as its folder has it; ends with NUL. */
static const char *
folder_name(const char *name)
{
	return gpt2_to_utf8(name, strlen(name), "model name").data;
}

/* Who makes an adapter useless is to know it before the training, not after it. */
static void
warn_of_adapters(const char *name)
{
	Gpt2Adapters adapters = gpt2_adapters_of(folder_name(name));

	if (adapters.n > 0)
		ereport(WARNING,
				(errmsg_plural("%d adapter of model \"%s\" will not load once the model is replaced",
							   "%d adapters of model \"%s\" will not load once the model is replaced",
							   adapters.n, adapters.n, name),
				 errdetail("Made from the old one: %s.", adapters.names),
				 errhint("Train them again for the new one, or give that another name.")));
}

/* The owner of the model that is to be replaced, if there is one and it says so. */
static g2_owner
check_new_name(const char *name, bool replace)
{
	char	   *target = gpt2_own_folder(folder_name(name));
	char	   *folder;
	g2_owner	owner = {.oid = 0};

	if (!gpt2_is_model_name(folder_name(name)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("model name \"%s\" is not valid", name),
				 errhint("A model is named by its folder's name, without a slash.")));
	if (strlen(folder_name(name)) > G2_TRAIN_MAX_NAME)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("model name \"%s\" is too long", name),
				 errdetail("With more than %d bytes, base backups have no room for the paths of its "
						   "files.", G2_TRAIN_MAX_NAME)));
	folder = gpt2_folder_find(folder_name(name));
	if (!folder && access(target, F_OK) == 0)
		folder = target;		/* a folder without a model, or a file */
	if (!folder)
		return owner;
	if (!replace || strcmp(folder, target) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("model \"%s\" exists already", name),
				 errdetail("It is in \"%s\".", gpt2_from_utf8(folder, strlen(folder), NULL)),
				 strcmp(folder, target) == 0 ?
				 errhint("Give the new one another name, or use replace => true.") :
				 errhint("Give the new one another name.")));
	owner = gpt2_check_owner(name, folder);
	if (!gpt2_lock_for_training(folder_name(name), GPT2_MODEL_GOES))
		gpt2_raise_in_training(psprintf("cannot replace model \"%s\" while an adapter of it is trained",
										name), folder_name(name), GPT2_MODEL_GOES);
	warn_of_adapters(name);
	return owner;
}

/* The folder of the model to start from, which the current user may use. */
static char *
find_base(const char *name)
{
	char	   *folder = gpt2_folder_require(name);

	gpt2_folder_check_use(name, folder);
	if (gpt2_is_adapter_folder(folder))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("model \"%s\" is an adapter, which cannot be trained further", name),
				 errhint("Start from its base, or make it with merge => true.")));
	return folder;
}

/* The base of an adapter that is kept stays until the end; all that others have of theirs is read at
 * the beginning. */
static void
take_base(const char *name, g2_train *t)
{
	t->base = g2_span_of(find_base(name));
	if (!t->keep_adapter)
		return;
	if (!gpt2_lock_for_training(folder_name(name), GPT2_MODEL_NEEDED))
		gpt2_raise_in_training(psprintf("cannot train an adapter of model \"%s\" while it is replaced "
										"or dropped", name), folder_name(name), GPT2_MODEL_NEEDED);
	/* It may have been until now. */
	t->base = g2_span_of(find_base(name));
}

/* An adapter is kept beside its base, which must not be what it replaces. */
static void
read_merge(FunctionCallInfo fcinfo, const char *base, const char *model, g2_train *t)
{
	t->keep_adapter = !PG_ARGISNULL(TUNE_MERGE) && !PG_GETARG_BOOL(TUNE_MERGE);
	if (t->keep_adapter && t->lora_rank == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("merge => false needs lora_rank"),
				 errdetail("Only an adapter can be kept beside its base.")));
	if (t->keep_adapter && strcmp(base, model) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an adapter that is kept needs another name than its base")));
}

/* ---- the training ---- */

/* No snapshot and no lock is kept while the model is trained. */
static void
end_transaction(void)
{
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	SPI_commit();
	SPI_start_transaction();	/* before the minor releases of 2022 it was not begun yet */
	SPI_finish();
}

static void
train(const g2_train *t, const char *query, bool atomic)
{
	g2_writer	w = gpt2_writer();
	g2_reader	r;
	const char *payload;
	size_t		len;

	gpt2_train_connect();
	g2_train_encode(&w, t);
	gpt2_train_send(G2_MSG_TRAIN, &w);
	payload = gpt2_train_receive(G2_MSG_TRAIN_READY, &len);
	r = g2_read(payload, len);
	if (g2_get_u32(&r) != 0)
		gpt2_train_send_rows(query);
	if (!atomic)
		end_transaction();
	(void) gpt2_train_receive(G2_MSG_DONE, &len);
}

static bool
is_atomic(FunctionCallInfo fcinfo)
{
	return !fcinfo->context || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic || IsSubTransaction();
}

static g2_span
utf8(const char *s, const char *what)
{
	return gpt2_to_utf8(s, strlen(s), what);
}

/* Who cancels a long training may not know that it is not lost. */
static void
rethrow(MemoryContext context)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED && !error->hint)
		error->hint = "The same CALL goes on from where it was, once its rows have been read.";
	ReThrowError(error);
}

/* Otherwise two trainings of one name would learn of each other only at the second's end. */
static void
lock_name(const char *model)
{
	if (!gpt2_lock_for_training(folder_name(model), GPT2_MODEL_CHANGED))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("another session trains model \"%s\" already", model),
				 errhint("The view gpt_stat_progress_train shows it. End that training, or give "
						 "the new model another name.")));
}

/* base: NULL = from nothing. */
static void
run(FunctionCallInfo fcinfo, g2_train *t, const char *base, const char *model, const char *query)
{
	MemoryContext context = CurrentMemoryContext;

	/* Its end would end the other's connection. */
	if (gpt2_train_is_connected())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the query of a training cannot start another one")));
	check_model_path();
	gpt2_purge_dropped_models();
	PG_TRY();
	{
		lock_name(model);
		if (base)
			take_base(base, t);
		t->replaced = check_new_name(model, t->replace != G2_TRAIN_REPLACE_NONE);
		t->model = utf8(model, "model name");
		t->query = utf8(query, "query");
		t->owner = gpt2_owner_of_role(GetUserId());
		t->database = MyDatabaseId;
		train(t, query, is_atomic(fcinfo));
	}
	PG_CATCH();
	{
		gpt2_train_disconnect();
		gpt2_unlock_training();
		rethrow(context);
	}
	PG_END_TRY();
	gpt2_train_disconnect();
	gpt2_unlock_training();
}

Datum
gpt2_train(PG_FUNCTION_ARGS)
{
	g2_train	t = {0};
	char	   *model = required_text(fcinfo, TRAIN_MODEL, "new_model"),
			   *query = required_text(fcinfo, TRAIN_QUERY, "query");

	read_shape(fcinfo, &t);
	read_common(fcinfo, TRAIN_COMMON, 10, 1e-3, 0.1, &t);
	run(fcinfo, &t, NULL, model, query);
	PG_RETURN_VOID();
}

Datum
gpt2_finetune(PG_FUNCTION_ARGS)
{
	g2_train	t = {0};
	char	   *base = required_text(fcinfo, TUNE_BASE, "base"),
			   *query = required_text(fcinfo, TUNE_QUERY, "query"),
			   *model = required_text(fcinfo, TUNE_MODEL, "new_model");

	t.lora_rank = int_argument(fcinfo, TUNE_LORA_RANK, "lora_rank", 0);
	t.lora_alpha = real_argument(fcinfo, TUNE_LORA_ALPHA, 2.0 * t.lora_rank);
	if (t.lora_rank == 0 && !PG_ARGISNULL(TUNE_LORA_ALPHA))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lora_alpha needs lora_rank")));
	read_merge(fcinfo, base, model, &t);
	read_common(fcinfo, TUNE_COMMON, 3, t.lora_rank > 0 ? 3e-4 : 5e-5, 0.01, &t);
	run(fcinfo, &t, base, model, query);
	PG_RETURN_VOID();
}
