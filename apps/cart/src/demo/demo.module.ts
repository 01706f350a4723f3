import { Module, type DynamicModule } from '@nestjs/common';
import { DEMO_ENABLED } from './demo-faults.interceptor.js';

@Module({})
export class DemoModule {
  static forRoot(enabled: boolean): DynamicModule {
    return {
      module: DemoModule,
      global: true,
      providers: [{ provide: DEMO_ENABLED, useValue: enabled }],
      exports: [DEMO_ENABLED],
    };
  }
}
