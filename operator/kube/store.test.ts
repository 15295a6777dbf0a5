import { describe, expect, it } from 'vitest';
import { Store } from './store.ts';

interface Item {
  readonly metadata: { readonly name: string; readonly namespace: string; readonly resourceVersion: string };
  readonly node?: string;
}

function item(name: string, version: number, node?: string): Item {
  const metadata = { name, namespace: 'n', resourceVersion: String(version) };
  return node === undefined ? { metadata } : { metadata, node };
}

const indexes = { node: ({ node }: Item) => (node === undefined ? [] : [node]) };
const names = (items: readonly Item[]): string[] => items.map(({ metadata }) => metadata.name);

describe('store', () => {
  it('finds by key and by index, as objects change and go', () => {
    const store = new Store<Item>(indexes);
    store.set(item('a', 1, 'x'));
    store.set(item('b', 2, 'x'));
    store.set(item('c', 3));
    expect([names(store.byIndex('node', 'x')), names(store.byIndex('node', 'y'))]).toEqual([['a', 'b'], []]);
    store.set(item('a', 4, 'y'));
    store.remove(item('b', 5, 'x'));
    expect([names(store.byIndex('node', 'x')), names(store.byIndex('node', 'y'))]).toEqual([[], ['a']]);
    store.replace([item('c', 6, 'x')], '9');
    expect([names(store.byIndex('node', 'x')), names(store.byIndex('node', 'y'))]).toEqual([['c'], []]);
    expect([store.get('n/c')?.node, store.get('n/a'), store.size, store.resourceVersion]).toEqual([
      'x',
      undefined,
      1,
      '9',
    ]);
  });

  it('does not answer for an index that nobody declared', () => {
    expect(() => new Store<Item>().byIndex('node', 'x')).toThrow('no index node');
  });

  it.each([
    ['set of the same version', (store: Store<Item>) => store.set(item('a', 5))],
    ['set of an older one', (store: Store<Item>) => store.set(item('a', 4))],
    ['removal of an older one', (store: Store<Item>) => store.remove(item('a', 4))],
    ['removal of what is not here', (store: Store<Item>) => store.remove(item('b', 9))],
  ])('%s changes nothing', (_name, act) => {
    const store = new Store<Item>();
    store.set(item('a', 5));
    expect([act(store), store.get('n/a')?.metadata.resourceVersion]).toEqual([undefined, '5']);
  });

  it('compares versions as numbers of any length', () => {
    const store = new Store<Item>();
    store.set(item('a', 9));
    expect(store.set(item('a', 10))?.type).toBe('modified');
  });

  it('never goes back to an older version of the whole', () => {
    const store = new Store<Item>();
    const seen = ['9', '10', '7', undefined, '', '11'].map((version) => {
      store.advance(version);
      return store.resourceVersion;
    });
    expect(seen).toEqual(['9', '10', '10', '10', '10', '11']);
  });
});
