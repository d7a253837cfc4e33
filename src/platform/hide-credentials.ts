/**
 * The text with the user, password and `password=` of an address struck out, for messages and logs. What comes before
 * the last `@` goes whole, so that nothing of a password with `/` or `@` in it stays, nor of an address that is malformed.
 */
export function hideCredentials(text: string): string {
  return text
    .replace(/^([a-z0-9+.-]+:\/\/)?.*@/is, '$1***@')
    .replace(/([?&](?:sentinel)?password=)[^&]*/gi, '$1***');
}
