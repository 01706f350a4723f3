import { Module, type DynamicModule } from '@nestjs/common';
import { ConfirmationQueue } from './confirmation.queue.js';
import { ConfirmationSender } from './confirmation.sender.js';
import { CONFIRMATIONS_OPTIONS, type ConfirmationsOptions } from './confirmations.options.js';
import { ConfirmationsWorker } from './confirmations.worker.js';

@Module({})
export class ConfirmationsModule {
  static forRoot(options: ConfirmationsOptions): DynamicModule {
    return {
      module: ConfirmationsModule,
      global: true,
      providers: [
        { provide: CONFIRMATIONS_OPTIONS, useValue: options },
        ConfirmationQueue,
        ConfirmationSender,
        ConfirmationsWorker,
      ],
      exports: [ConfirmationQueue],
    };
  }
}
