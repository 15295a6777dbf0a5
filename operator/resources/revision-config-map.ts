// The ConfigMap that keeps what a revision's pods are made from. Immutable: written when the revision is first wanted, then only read.
import type { V1ConfigMap } from '@kubernetes/client-node';
import { COMPONENTS, LABELS } from '../api.ts';
import { revisionConfigMapName } from '../names.ts';
import type { ChildObject } from '../observed.ts';
import type { RevisionTemplate } from '../revision.ts';
import { childMetadata, type Owner } from './labels.ts';

const TEMPLATE_KEY = 'template.json';
const ENGINE_KEY = 'engine.json';

/** To be applied only where none exists: another operator's default image would be a change, which the API server refuses. */
export function revisionConfigMap(owner: Owner, revision: string, template: RevisionTemplate): ChildObject {
  const { model, tensorParallel, engine } = template.spec;
  const settings = { servedName: template.servedName, model, tensorParallel, engine };
  const metadata = childMetadata(
    owner,
    revisionConfigMapName(owner.metadata.name, revision),
    COMPONENTS.revision,
  );
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { ...metadata, labels: { ...metadata.labels, [LABELS.revision]: revision } },
    immutable: true,
    data: {
      [ENGINE_KEY]: `${JSON.stringify(settings, null, 2)}\n`,
      [TEMPLATE_KEY]: `${JSON.stringify(template, null, 2)}\n`,
    },
  };
}

/** The revision and template that a ConfigMap holds; undefined where it is none of ours or was written by a release that this one cannot read. */
export function parseRevisionConfigMap(
  configMap: V1ConfigMap,
): { readonly revision: string; readonly template: RevisionTemplate } | undefined {
  const revision = configMap.metadata?.labels?.[LABELS.revision];
  const text = configMap.data?.[TEMPLATE_KEY];
  if (revision === undefined || text === undefined) return undefined;
  const template = parseJson(text) as Partial<RevisionTemplate> | undefined;
  const complete =
    template?.version === 1 &&
    typeof template.image === 'string' &&
    typeof template.servedName === 'string' &&
    typeof template.spec?.model?.source === 'string' &&
    typeof template.spec.tensorParallel?.size === 'number' &&
    typeof template.spec.engine?.limits === 'object';
  return complete ? { revision, template: template as RevisionTemplate } : undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // told by the caller as a template that cannot be read
  }
}
