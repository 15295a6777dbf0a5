// Whether a list of headers is a request, or trailers of one (RFC 9113, 8.2 and 8.3).

export interface RequestHead {
  readonly method: string;
  readonly path: string;
  readonly authority: string;
  /** Name, value, name, value …; pseudo-headers among them. */
  readonly fields: readonly string[];
  /** Bytes that the body is said to have. */
  readonly contentLength: number | undefined;
}

/** Headers about a connection of HTTP/1.1. */
const CONNECTION_HEADERS = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
]);

/** The request, or what is wrong with it. */
export function requestHead(fields: readonly string[]): RequestHead | string {
  let method: string | undefined;
  let path: string | undefined;
  let scheme: string | undefined;
  let authority: string | undefined;
  let contentLength: number | undefined;
  let pseudo = true;
  for (let index = 0; index < fields.length; index += 2) {
    const name = fields[index]!;
    const value = fields[index + 1]!;
    if (name.charCodeAt(0) !== 0x3a) {
      pseudo = false;
      if (CONNECTION_HEADERS.has(name) || (name === 'te' && value !== 'trailers'))
        return `the header ${name}: ${value} does not belong into HTTP/2`;
      if (name === 'content-length') {
        if (!/^\d{1,15}$/.test(value)) return `a content-length that is no number`;
        if (contentLength !== undefined && contentLength !== Number(value)) return 'two content-lengths';
        contentLength = Number(value);
      }
      continue;
    }
    if (!pseudo) return `${name} behind another header`;
    if (name === ':method' && method === undefined) method = value;
    else if (name === ':path' && path === undefined) path = value;
    else if (name === ':scheme' && scheme === undefined) scheme = value;
    else if (name === ':authority' && authority === undefined) authority = value;
    else return `${name} twice, or not known`;
  }
  if (method === undefined || scheme === undefined || path === undefined || path === '')
    return ':method, :scheme or :path missing';
  return { method, path, authority: authority ?? '', fields, contentLength };
}

/** What is wrong with trailers; undefined when nothing is. */
export function trailersFault(fields: readonly string[]): string | undefined {
  for (let index = 0; index < fields.length; index += 2)
    if (fields[index]!.startsWith(':')) return `${fields[index]} in trailers`;
  return undefined;
}
