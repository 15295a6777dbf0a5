/** What this layer needs of a logger; winston's fits. Fields are plain data. */
export interface Log {
  debug(message: string, fields?: object): unknown;
  info(message: string, fields?: object): unknown;
  warn(message: string, fields?: object): unknown;
  error(message: string, fields?: object): unknown;
}
