// The headers that HPACK knows from the start (RFC 7541, appendix A).

export interface TableEntry {
  readonly name: string;
  readonly value: string;
  /** What it counts against the sizes of tables and lists. */
  readonly bytes: number;
  /** Name and value have only characters that they may have. */
  readonly valid: boolean;
  readonly validName: boolean;
}

const FIELDS = `
:authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|:status 204|:status 206|:status 304|:status 400|
:status 404|:status 500|accept-charset|accept-encoding gzip, deflate|accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|
authorization|cache-control|content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|cookie|date|
etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|link|location|max-forwards|
proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|
via|www-authenticate`
  .replaceAll('\n', '')
  .split('|');

/** By index; there is no entry 0. */
export const STATIC_TABLE: readonly TableEntry[] = ['', ...FIELDS].map((field) => {
  const [name = '', ...value] = field.split(' ');
  return {
    name,
    value: value.join(' '),
    bytes: field.length + (value.length === 0 ? 32 : 31),
    valid: true,
    validName: true,
  };
});

/** Index of the first entry of a name. */
export const STATIC_NAMES: ReadonlyMap<string, number> = new Map(
  STATIC_TABLE.map(({ name }, index): [string, number] => [name, index])
    .slice(1)
    .toReversed(),
);
