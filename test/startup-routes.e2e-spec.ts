import { Controller, Next, Post, Render, Res, Sse, type Type } from '@nestjs/common';
import { Idempotent } from 'nestjs-pg-idempotency';
import { NEVER, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { PLATFORMS } from './support/app.js';
import { boot, faultOf, useStartup } from './support/startup.js';

useStartup();

describe.each(PLATFORMS)('a route whose answer cannot be recorded, on %s', (platform) => {
  @Controller('taken')
  class TakesResponse {
    @Post()
    @Idempotent()
    add(@Res() response: { send(body: string): void }): void {
      response.send('bypassed');
    }
  }
  @Controller('next')
  class TakesNext {
    @Post()
    @Idempotent()
    add(@Next() next: () => void): void {
      next();
    }
  }
  @Controller('sse')
  class Streams {
    @Sse()
    @Idempotent()
    events(): Observable<never> {
      return NEVER;
    }
  }
  @Controller('posted')
  class PostedStream {
    @Post()
    @Sse()
    @Idempotent()
    events(): Observable<never> {
      return NEVER;
    }
  }
  @Controller('streams')
  @Idempotent()
  class ClassStreams {
    @Sse()
    events(): Observable<never> {
      return NEVER;
    }
  }
  @Controller('page')
  class Renders {
    @Post()
    @Render('page')
    @Idempotent()
    page(): object {
      return {};
    }
  }
  @Controller('class')
  @Idempotent()
  class ClassTakesResponse {
    @Post()
    add(@Res() response: { send(body: string): void }): void {
      response.send('bypassed');
    }
  }

  @Controller('forgetful')
  class Forgetful {
    @Idempotent()
    add(): object {
      return {};
    }
  }
  class Service {
    @Idempotent()
    charge(): void {}
  }
  class Heir extends Service {}
  @Idempotent()
  class DecoratedService {
    charge(): void {}
  }
  @Controller('helpful')
  @Idempotent()
  class Helpful {
    @Post()
    add(): object {
      return this.help();
    }
    help(): object {
      return {};
    }
  }

  it.each<[string, Type, RegExp]>([
    [
      '@Res()',
      TakesResponse,
      /^@Idempotent\(\) on TakesResponse\.add: received '@Res\(\).* passthrough: true/,
    ],
    ['@Next()', TakesNext, /^@Idempotent\(\) on TakesNext\.add: received .*@Next\(\)/],
    ['@Sse()', Streams, /^@Idempotent\(\) on Streams\.events: received '@Sse\(\)'/],
    ['@Sse() made a POST', PostedStream, /^@Idempotent\(\) on PostedStream\.events: received '@Sse\(\)'/],
    ['@Render()', Renders, /^@Idempotent\(\) on Renders\.page: received '@Render\(\)'/],
    ['@Res() in a decorated class', ClassTakesResponse, /^@Idempotent\(\) on ClassTakesResponse\.add: /],
  ])('fails the start: %s', async (_what, controller, message) => {
    expect((await faultOf({ controllers: [controller], platform })).message).toMatch(message);
  });

  it.each<[string, { controllers?: Type[]; providers?: Type[] }, RegExp]>([
    [
      'a method of a controller without @Post()',
      { controllers: [Forgetful] },
      /^@Idempotent\(\) on Forgetful\.add: received 'a method that is no HTTP route'\. Only POST and PATCH routes/,
    ],
    ['a method of a service', { providers: [Service] }, /^@Idempotent\(\) on Service\.charge: received /],
    [
      'a method that a service inherits',
      { providers: [Heir] },
      /^@Idempotent\(\) on Heir\.charge: received /,
    ],
    ['a service', { providers: [DecoratedService] }, /^@Idempotent\(\) on DecoratedService: received /],
  ])('fails the start where it is no route: %s', async (_what, parts, message) => {
    expect((await faultOf({ ...parts, platform })).message).toMatch(message);
  });

  it('is left alone in a decorated class when it is no route, and in a controller that is a provider too', async () => {
    const { post } = await boot({ controllers: [Helpful], providers: [Helpful], platform });
    expect((await post('/helpful')).status).toBe(201);
  });

  it('is left alone in a decorated class when it is a stream of events, which is a GET', async () => {
    const { log } = await boot({ controllers: [ClassStreams], platform });
    expect(log.warnings.filter((text) => text.includes('ClassStreams'))).toEqual([]);
  });

  it('is a fine route with @Res({ passthrough: true })', async () => {
    @Controller('passthrough')
    class PassesThrough {
      @Post()
      @Idempotent()
      add(@Res({ passthrough: true }) response: { header(name: string, value: string): void }): object {
        response.header('Location', '/things/1');
        return { ok: true };
      }
    }
    const { post } = await boot({ controllers: [PassesThrough], platform });
    const answers = [await post('/passthrough'), await post('/passthrough')];
    expect(answers.map(({ status }) => status)).toEqual([201, 200]);
    expect(answers.map(({ headers }) => headers.location)).toEqual(['/things/1', '/things/1']);
    expect(answers[1]?.text).toBe(answers[0]?.text);
  });

  it('is a fine route without @Idempotent()', async () => {
    @Controller('free')
    class Free {
      @Post()
      add(@Res() response: { send(body: string): void }): void {
        response.send('mine');
      }
    }
    const { post } = await boot({ controllers: [Free], platform });
    expect((await post('/free')).text).toBe('mine');
  });
});
