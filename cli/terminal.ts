import { styleText } from 'node:util';

type Style = Parameters<typeof styleText>[0];

/** Whether the stream is a terminal that may be redrawn. */
export function isTerminal(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY && process.env['TERM'] !== 'dumb';
}

/** Styles text for this stream: as it is when piped or where NO_COLOR is set. */
export function styler(stream: NodeJS.WriteStream): (style: Style, text: string) => string {
  const noColor = process.env['NO_COLOR'];
  const plain = !isTerminal(stream) || (noColor !== undefined && noColor !== '');
  return (style, text) => (plain ? text : styleText(style, text, { validateStream: false }));
}

/** A model's text without the control characters that would steer the terminal it is shown on. */
export function printable(text: string): string {
  // eslint-disable-next-line no-control-regex -- these are the characters meant
  return text.replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '');
}
