// All operations under check, in the order in which they are run.
import { ATTENTION_CASES } from './attention-cases.ts';
import { LINEAR_CASES } from './linear-cases.ts';
import type { OperationCase } from './operation-case.ts';
import { ROW_CASES } from './row-cases.ts';

export const CASES: readonly OperationCase[] = [...ROW_CASES, ...LINEAR_CASES, ...ATTENTION_CASES];
