/*
 * plan_nodes.h: PostgreSQL's headers about plans and expressions.
 *
 * Before 16 they declare pointers to functions without parameters, which this project's warnings do
 * not permit.
 */
#ifndef GPT2_PLAN_NODES_H
#define GPT2_PLAN_NODES_H

#include "postgres.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#include "commands/explain.h"
#include "executor/executor.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "nodes/supportnodes.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#pragma GCC diagnostic pop

#endif							/* GPT2_PLAN_NODES_H */
