import { Module, type DynamicModule } from '@nestjs/common';
import { DemoController } from './demo.controller.js';
import { DEMO_ENABLED } from './demo-faults.interceptor.js';
import { EventCounts } from './event-counts.js';

@Module({})
export class DemoModule {
  static forRoot(enabled: boolean): DynamicModule {
    return {
      module: DemoModule,
      global: true,
      controllers: [DemoController],
      providers: [{ provide: DEMO_ENABLED, useValue: enabled }, EventCounts],
      exports: [DEMO_ENABLED],
    };
  }
}
