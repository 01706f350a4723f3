/** The slope of the least squares through points, without keeping them: means are moved along, so that large numbers lose no digits. */
export class Slope {
  #count = 0;
  #meanX = 0;
  #meanY = 0;
  #squares = 0;
  #products = 0;

  add(x: number, y: number): void {
    this.#count += 1;
    const fromX = x - this.#meanX;
    this.#meanX += fromX / this.#count;
    this.#meanY += (y - this.#meanY) / this.#count;
    this.#squares += fromX * (x - this.#meanX);
    this.#products += fromX * (y - this.#meanY);
  }

  /** `undefined`: fewer than three points, or all above one another. */
  value(): number | undefined {
    return this.#count < 3 || this.#squares === 0 ? undefined : this.#products / this.#squares;
  }
}
