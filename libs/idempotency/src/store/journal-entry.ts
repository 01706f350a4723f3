/** What an attempt has done of its handler, as the journal keeps it for the attempts after it. */
export interface JournalEntry {
  readonly name: string;
  /** Its place among the steps and phases of the handler, from 1. */
  readonly position: number;
  readonly kind: 'step' | 'phase';
  /** The attempt that did it. */
  readonly attempt: number;
  /** It ended in an error that was declared final: the body is that error. */
  readonly raised: boolean;
  /** `null`: it returned nothing. */
  readonly contentType: string | null;
  readonly body: Buffer;
}
