import { S3Error } from './errors.js';

/** An element to be written: text, a number, children by name; an array repeats its name. */
export type XmlValue = string | number | boolean | undefined | XmlTree | XmlValue[];
export interface XmlTree {
  [name: string]: XmlValue;
}

// XML 1.0 has no way to write most control characters, not even as references; S3 writes the references
// all the same, and clients that must be safe ask for encoding-type=url.
export function escapeXml(text: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  return text.replace(/[&<>"'\u0000-\u001f\u007f]/g, (c) => {
    if (c === '&') return '&amp;';
    if (c === '<') return '&lt;';
    if (c === '>') return '&gt;';
    if (c === '"') return '&quot;';
    return `&#x${c.charCodeAt(0).toString(16)};`;
  });
}

function render(name: string, value: XmlValue): string {
  if (value === undefined) return '';
  if (Array.isArray(value)) return value.map((v) => render(name, v)).join('');
  if (typeof value === 'object') {
    const inner = Object.entries(value).map(([n, v]) => render(n, v));
    return `<${name}>${inner.join('')}</${name}>`;
  }
  return `<${name}>${escapeXml(String(value))}</${name}>`;
}

const namespace = 'http://s3.amazonaws.com/doc/2006-03-01/';

export function xmlDocument(root: string, tree: XmlTree): string {
  const inner = Object.entries(tree).map(([n, v]) => render(n, v));
  // The error document is the one that S3 sends without a namespace.
  const open = root === 'Error' ? `<${root}>` : `<${root} xmlns="${namespace}">`;
  return `<?xml version="1.0" encoding="UTF-8"?>\n${open}${inner.join('')}</${root}>`;
}

/** An element that was read. */
export interface XmlElement {
  name: string;
  text: string;
  children: XmlElement[];
}

const entities: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

function unescapeXml(text: string): string {
  return text.replace(
    /&(?:#x([0-9a-fA-F]+)|#([0-9]+)|(\w+));/g,
    (whole, hex?: string, dec?: string, name?: string) => {
      if (name !== undefined) {
        const found = entities[name];
        if (found === undefined) throw new S3Error('MalformedXML', `The entity ${whole} is unknown.`);
        return found;
      }
      const code = hex !== undefined ? parseInt(hex, 16) : parseInt(dec ?? '', 10);
      if (!(code <= 0x10ffff))
        throw new S3Error('MalformedXML', `The character reference ${whole} is out of range.`);
      return String.fromCodePoint(code);
    },
  );
}

/**
 * Reads the small documents that S3 clients send: elements, text, CDATA, comments. A document type is
 * refused, so there is nothing to expand; namespace prefixes are dropped.
 */
export function parseXml(source: string): XmlElement {
  const token = new RegExp(
    [
      /<!\[CDATA\[([\s\S]*?)\]\]>/,
      /<!--[\s\S]*?-->|<\?[\s\S]*?\?>/,
      /<(\/?)([^\s<>/!]+)(?:\s+[^\s=<>/]+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*\s*(\/?)>/,
      /([^<]+)/,
    ]
      .map((part) => part.source)
      .join('|'),
    'y',
  );
  const top: XmlElement = { name: '', text: '', children: [] };
  const stack = [top];
  while (token.lastIndex < source.length) {
    const at = token.lastIndex;
    const match = token.exec(source);
    const current = stack[stack.length - 1];
    if (!match || !current)
      throw new S3Error('MalformedXML', `The XML is not well-formed near offset ${at}.`);
    const [, cdata, closing, rawName, selfClosing, text] = match;
    if (cdata !== undefined) current.text += cdata;
    else if (text !== undefined) current.text += unescapeXml(text);
    else if (rawName !== undefined) {
      const name = rawName.replace(/^.*:/, '');
      if (closing) {
        if (stack.length < 2 || current.name !== name)
          throw new S3Error('MalformedXML', `</${name}> closes nothing that is open.`);
        stack.pop();
      } else {
        const element: XmlElement = { name, text: '', children: [] };
        current.children.push(element);
        if (!selfClosing) stack.push(element);
        if (stack.length > 32) throw new S3Error('MalformedXML', 'The XML is nested too deep.');
      }
    }
  }
  const root = top.children[0];
  if (stack.length !== 1 || top.children.length !== 1 || !root)
    throw new S3Error('MalformedXML', 'The XML is not one closed element.');
  return root;
}

export const childrenOf = (element: XmlElement, name: string): XmlElement[] =>
  element.children.filter((c) => c.name === name);

export const textOf = (element: XmlElement, name: string): string | undefined =>
  element.children.find((c) => c.name === name)?.text;
